"""Passes on how far a load is: at once, then once a second at most, the newest last; to the log now and then."""

import asyncio
import logging
from collections.abc import Callable
from typing import Self

from ocr_inference.protocol.engine import Progress

log = logging.getLogger(__name__)

TELL_SECONDS = 1.0
"""Observers get the whole state with each change."""
LOG_SECONDS = 10.0


class Telling:
    """For one load; a context manager that ends with it. Called on the event loop, as often as news come."""

    def __init__(self, model: str, tell: Callable[[Progress], None]) -> None:
        self._model = model
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._logged = self._loop.time()
        self._newest: Progress | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def __call__(self, progress: Progress) -> None:
        self._newest = progress
        if self._timer is None:
            self._pass_on()

    def _pass_on(self) -> None:
        self._timer = None
        if (progress := self._newest) is None:
            return
        self._newest = None
        self._timer = self._loop.call_later(TELL_SECONDS, self._pass_on)
        self._tell(progress)
        if self._loop.time() >= self._logged + LOG_SECONDS:
            self._logged = self._loop.time()
            fields = {"model": self._model, "phase": progress.phase, "file": progress.file}
            fields |= {"done_bytes": str(progress.done_bytes), "total_bytes": str(progress.total_bytes)}
            log.info("still loading %s", self._model, extra=fields)
