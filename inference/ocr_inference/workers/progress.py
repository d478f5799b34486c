"""Passes on the progress of a load: at once, then once a second at most, the latest always; now and then to the log."""

import asyncio
import logging
from collections.abc import Callable
from typing import Self

from ocr_inference.protocol.engine import Progress

log = logging.getLogger(__name__)

REPORT_SECONDS = 1.0
"""Least time between two reports: observers get the whole state with each."""
LOG_SECONDS = 10.0


class ProgressReporter:
    """Reports the progress of one load; a context manager around it. Call it on the event loop, as often as needed."""

    def __init__(self, model: str, report: Callable[[Progress], None]) -> None:
        self._model = model
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._logged = self._loop.time()
        self._latest: Progress | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def __call__(self, progress: Progress) -> None:
        self._latest = progress
        if self._timer is None:
            self._report_latest()

    def _report_latest(self) -> None:
        self._timer = None
        if (progress := self._latest) is None:
            return
        self._latest = None
        self._timer = self._loop.call_later(REPORT_SECONDS, self._report_latest)
        self._report(progress)
        if self._loop.time() >= self._logged + LOG_SECONDS:
            self._logged = self._loop.time()
            fields = {"model": self._model, "phase": progress.phase, "file": progress.file}
            fields |= {"done_bytes": str(progress.done_bytes), "total_bytes": str(progress.total_bytes)}
            log.info("still loading %s", self._model, extra=fields)
