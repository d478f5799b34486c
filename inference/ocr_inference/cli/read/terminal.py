"""What a person sees of a run on standard error: lines, and below them the progress while it changes.

Into a pipe or a file go lines only.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from typing import Final, TextIO

from ocr_inference.cli.read import progress
from ocr_inference.cli.read.progress import Progress
from ocr_wire.redaction import redact

EVERY_SECONDS: Final = 0.1
"""Between two lines that are drawn, at least."""
_ERASE: Final = "\r\x1b[K"


class Terminal:
    def __init__(
        self,
        out: TextIO,
        environ: Mapping[str, str],
        now: Callable[[], float],
        *,
        quiet: bool = False,
        verbose: bool = False,
        redactor: Callable[[str], str] = redact,
    ) -> None:
        """Prepare. With `quiet` there are lines about failures only; with `verbose`, and on no terminal without it,
        each page is a line instead of progress."""
        self._out = out
        self._now = now
        self._redact = redactor
        self._verbose = verbose
        self._quiet = quiet
        self._draws = out.isatty() and not quiet and not verbose and environ.get("TERM") != "dumb"
        self._unicode = (out.encoding or "").lower().replace("-", "") == "utf8"
        self._drawn_at = 0.0
        self._is_drawn = False

    def detail(self, text: str) -> None:
        """Say what only `--verbose` shows."""
        if self._verbose:
            self.say(text)

    def note(self, text: str) -> None:
        """Say what `--quiet` leaves out."""
        if not self._quiet:
            self.say(text)

    def say(self, text: str) -> None:
        self.clear()
        self._write(self._redact(text) + "\n")

    def draw(self, state: Progress, *, at_once: bool = False) -> None:
        """Draw the progress, if that is not too often."""
        if not self._draws or (not at_once and self._now() - self._drawn_at < EVERY_SECONDS):
            return
        self._drawn_at, self._is_drawn = self._now(), True
        text = progress.line(state, self._columns(), self._drawn_at, unicode=self._unicode)
        self._write(_ERASE + progress.safe(self._redact(text)))

    def clear(self) -> None:
        """Take the progress away, before something is printed."""
        if self._is_drawn:
            self._is_drawn = False
            self._write(_ERASE)

    def _columns(self) -> int:
        try:
            # Of this stream: standard output may be another terminal, or none.
            return os.get_terminal_size(self._out.fileno()).columns or 80
        except (OSError, ValueError):
            return shutil.get_terminal_size().columns

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
