"""The line on a terminal that says how far `read` is; nothing is written where there is no terminal."""

import os
import shutil
import sys
import time
from types import TracebackType
from typing import Final, Self

from kubectl_ocr.cluster import warn
from kubectl_ocr.views.progress import Reading, line

ERASE: Final = "\r\x1b[K"
SPACING_SECONDS: Final = 0.1


class ProgressLine:
    """Progress of documents by their names, on standard error."""

    def __init__(self, count: int) -> None:
        self._count, self._ended = count, 0
        self._readings: dict[str, Reading] = {}
        self._shows = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()

    def reads(self, name: str, reading: Reading) -> None:
        self._readings[name] = reading
        self._draw()

    def ended(self, name: str) -> None:
        self._ended += 1
        self._readings.pop(name, None)
        self._draw()

    def pause(self) -> None:
        """Take the line away, for what is printed; the next change draws it again."""
        if self._shows:
            sys.stderr.write(ERASE)
            sys.stderr.flush()
            self._drawn = float("-inf")

    def say(self, message: str) -> None:
        """Print a warning in its place."""
        self.pause()
        warn(message)

    def _draw(self) -> None:
        if not self._shows or time.monotonic() - self._drawn < SPACING_SECONDS:
            return
        width = shutil.get_terminal_size().columns
        sys.stderr.write(ERASE + line(self._readings, self._ended, self._count, time.time(), width))
        sys.stderr.flush()
        self._drawn = time.monotonic()
