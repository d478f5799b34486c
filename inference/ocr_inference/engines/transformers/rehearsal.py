"""Prepares a blank page beside the reading of weights, since a processor's first page takes longer than the next ones.

Templates are compiled then, settings merged and functions of libraries used for the first time, a twentieth of a second
and more. Reading weights leaves Python to others meanwhile. A standby, for which nothing waits, takes no thread for it:
of what a thread has freed, glibc gives less back (`own_memory.trim`), and 41 MiB stayed.
"""

import contextlib
import threading

from ocr_inference.engines import pictures
from ocr_inference.engines.transformers.checkpoints import Opened
from ocr_inference.protocol.engine import InferRequest


class Rehearsal:
    """Blank page of the checkpoint that was opened last, in a thread of its own."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def begin(self, opened: Opened, *, beside: bool = True) -> None:
        """Begin, where another thread can be had; without it the first page takes a little longer. Not `beside` what
        the caller does, it is done here."""
        self.end()
        if not beside:
            _prepare(opened)
            return
        thread = threading.Thread(target=_prepare, args=(opened,), name="rehearsal")
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def end(self) -> None:
        """Wait until it is done, if it began."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def _prepare(opened: Opened) -> None:
    with contextlib.suppress(Exception):  # such as of a page that is too small: pages say it themselves
        opened.prepare(InferRequest(image=pictures.blank()))
