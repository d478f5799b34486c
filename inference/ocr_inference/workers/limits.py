"""Limits of life-cycle calls: the longest time without progress, after which a call counts as hung.

No call has a limit for all of its time: a load may download for hours. What counts is the time since the last report
by which something had moved; reports that say the same again, such as those of a thread that goes on while the engine
hangs, count as none. Where no bytes move, the limits leave room for the work that is known to take longest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ocr_inference.protocol.engine import CallName, Progress

BYTES_PER_SECOND: Final = 128 << 20
"""Slowest that weights are moved or freed as a whole, without a report: host memory that was swapped to a disk."""
EXIT_SECONDS: Final = 10.0
"""Time to exit; a worker that takes longer is killed, which loses nothing."""

_PHASES: Final[Mapping[str, float]] = {
    # A download gives up by itself after five attempts without a byte: 350 s with the defaults of its retry policy. A
    # file that is there already is hashed without a report.
    "downloading": 900.0,
    # Then the model is built and the GPU's context made, which report nothing: a minute each, on the slowest machines.
    "checking": 300.0,
    # 128 MiB are under way at most. A network disk whose server fails over stands still for up to 3 minutes.
    "reading": 300.0,
    # transformers reads and converts a whole checkpoint without a word: 80 GB at 50 MB/s.
    "converting": 1800.0,
    # Between two stages of a server of the engine's own: imports, weights from a network disk, compiling.
    "starting": 900.0,
}


@dataclass(frozen=True)
class Limits:
    """Limits, in seconds."""

    start: float = 300.0
    """First call of a process until its first report: imports and configuration, from a slow network disk."""
    phases: Mapping[str, float] = field(default_factory=lambda: _PHASES)
    """After a report of each phase."""
    move: float = 60.0
    """Restore, offload and unload, besides the time by bytes."""
    survive: float = 15.0
    """Time after which a process that was killed and hasn't ended is reported: one that holds a GPU and a hundred
    gigabytes takes seconds to end."""
    hopeless: float = 120.0
    """Time after which the server counts as unhealthy: it costs all of its models, and may end what it can't kill."""

    def seconds(self, call: CallName, last: Progress | None, nbytes: int, *, first: bool) -> float:
        """Return the longest time without progress, after the report `last`, for a call on a model that has `nbytes` in
        host memory; `first`: whether it is the first call of its process."""
        moving = 0.0 if call in ("load", "stand_by") else self.move + nbytes / BYTES_PER_SECOND
        if call == "exit":
            return EXIT_SECONDS
        if last is not None:
            return moving + self.phases[last.phase]
        return moving + (self.start if first or call in ("load", "stand_by") else 0.0)


LIMITS: Final = Limits()
