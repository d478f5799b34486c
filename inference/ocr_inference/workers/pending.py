"""Call to a worker that has no answer yet."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ocr_inference.protocol.engine import Delta, EngineError, Failure, Footprint, PageResult, Progress
from ocr_inference.protocol.memory_use import CleanedUp
from ocr_inference.protocol.page_file import Page
from ocr_inference.workers.watchdog import Watchdog

Result = PageResult | Footprint | CleanedUp | None


class Reads(Protocol):
    """Reader of a lease's page: this server's own worker, or another pod that helps."""

    def infer(
        self,
        page: Page,
        *,
        max_pages: int,
        max_wait_seconds: float,
        limit_seconds: float,
        on_delta: Callable[[Delta], None] | None = None,
    ) -> "asyncio.Future[Result]":
        """Send a page; the future is done when its reader is done with it, with `WorkerLost` where that is lost."""

    def forget(self, future: "asyncio.Future[Result]") -> None:
        """Stop reading a page that nothing waits for any more."""


class WorkerLost(EngineError):
    """Call that failed because its worker died."""

    def __init__(self, failure: Failure, *, begun: bool = False) -> None:
        """Prepare; `begun`: whether the worker had begun the page, which so may be the cause."""
        super().__init__(failure)
        self.begun = begun


def _future() -> "asyncio.Future[Result]":
    future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    # A future may fail when nothing waits for it any more; that is no error then.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


@dataclass
class Pending:
    """Call without an answer yet."""

    page: Page | None = None
    """The page, where the call is one, with a handle of its own."""
    begun: bool = False
    on_delta: Callable[[Delta], None] | None = None
    on_progress: Callable[[Progress], None] | None = None
    forgotten: bool = False
    future: "asyncio.Future[Result]" = field(default_factory=_future)
    _watchdog: Watchdog | None = None
    _limit: Callable[[], float] | None = None

    def watch(self, limit: Callable[[], float], expire: Callable[[float], None]) -> None:
        """Call `expire` where it has no answer `limit()` seconds from now, or from the last `feed`."""
        watchdog = Watchdog(limit(), expire)
        self._watchdog, self._limit = watchdog, limit
        self.future.add_done_callback(lambda _: watchdog.stop())

    def feed(self) -> None:
        """Give it its time again."""
        if self._watchdog is not None and self._limit is not None and not self.future.done():
            self._watchdog.feed(self._limit())

    def resolve(self, result: Result | Failure) -> None:
        if self.future.done():
            return
        if isinstance(result, Failure):
            self.future.set_exception(EngineError(result))
        else:
            self.future.set_result(result)

    def close(self) -> None:
        if self.page is not None:
            self.page.file.close()
