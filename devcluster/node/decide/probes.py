"""The verdicts of probes. Pure: asking is `probing`'s work."""

from dataclasses import dataclass
from enum import StrEnum

from devcluster.kube.model import Probe

EAGER_SECONDS = 0.1
"""The first pause between looks at a container that isn't ready yet."""


class Kind(StrEnum):
    STARTUP = "startup"
    LIVENESS = "liveness"
    READINESS = "readiness"


@dataclass(frozen=True)
class Progress:
    """Conclusion of a probe so far: `passing` is None until there is one."""

    passing: bool | None
    row: int = 0
    """Equal answers in a row."""
    last: bool | None = None


def first(kind: Kind) -> Progress:
    """Return the progress before the first answer: alive until a probe fails, not ready until one succeeds."""
    return Progress({Kind.STARTUP: None, Kind.LIVENESS: True, Kind.READINESS: False}[kind])


def advance(probe: Probe, progress: Progress, success: bool) -> Progress:
    """Count one answer; the conclusion changes once the probe's threshold of equal answers is reached."""
    row = progress.row + 1 if progress.last is success else 1
    threshold = probe.success_threshold if success else probe.failure_threshold
    return Progress(success if row >= threshold else progress.passing, row, success)


def eager(probe: Probe, progress: Progress) -> bool:
    """Return whether to probe more often than the period says.

    A success ends waiting early; failures between periods don't count, so the time a container is given stays the
    same. A real kubelet reacts only once a period. Probes that start a program, or want several successes, keep to it.
    """
    return progress.passing is not True and probe.success_threshold == 1 and probe.exec is None
