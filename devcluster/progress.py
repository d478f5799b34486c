"""What the user sees while something slow happens: a line that moves on a terminal, a few plain lines elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final, TextIO

_PLAIN_INTERVAL_SECONDS: Final = 15.0
_BAR_CELLS: Final = 24


def duration(seconds: float) -> str:
    """Return seconds in words: `4.1 s`, `48 s`, `5 min 20 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def bar(share: float, cells: int = _BAR_CELLS) -> str:
    """Return a share from 0 to 1 as a bar."""
    filled = round(min(1.0, max(0.0, share)) * cells)
    return "━" * filled + "┄" * (cells - filled)


class Progress:
    """Writer of lines to one stream; `clock` counts seconds and only its differences matter."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._moving = stream.isatty()
        self._last = float("-inf")
        self._drawn = ""

    def say(self, text: str) -> None:
        """Write one line that stays."""
        self._erase()
        print(text, file=self._stream, flush=True)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce something slow, and write how long it took."""
        started = self._clock()
        self.say(f"{title} …")
        yield
        self.say(f"{title}: done in {duration(self._clock() - started)}")

    def count(self, title: str, done: int, total: int, elapsed: float, estimate: float) -> None:
        """Show how far something is. Call often: a terminal's line is redrawn, elsewhere a line appears every 15 s."""
        times = f"{duration(elapsed)} of about {duration(max(estimate, elapsed))}"
        if self._moving:
            share = done / total if total else 0.0
            self._erase()
            self._drawn = f"  {bar(share)} {title}, {done}/{total}, {times}"
            self._stream.write(self._drawn)
            self._stream.flush()
        elif self._clock() - self._last >= _PLAIN_INTERVAL_SECONDS:
            self._last = self._clock()
            self.say(f"  {title}: {done}/{total}, {times}")

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._drawn = ""
