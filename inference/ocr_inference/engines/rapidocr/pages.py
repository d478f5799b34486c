"""Pages that are read at the same time, by a thread each.

Most of a page's time is spent in libraries that let other threads run, but none of them keeps all cores at work: what
comes before and after a model takes one core. So one page is cut up and put together beside the other's models.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from ocr_inference import limits
from ocr_inference.protocol.engine import EngineError, Event, Failure, FailureKind, InferRequest, PageResult

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.02
"""Longest time for which `events` waits, so that pages can come meanwhile."""
BESIDE_BYTES: Final = 512 << 20
"""Memory that has to be left for each of several pages: what detection takes of one of A4 at its largest size."""

Check = Callable[[], None]
"""Called between two parts of a page's work; raises where the page isn't wanted any more."""
Read = Callable[[InferRequest, Check], PageResult]


class _UnwantedError(Exception):
    pass


@dataclass(frozen=True)
class _Page:
    job: "Future[PageResult]"
    unwanted: threading.Event


class Pages:
    """Pages in an engine. Called by one thread."""

    def __init__(
        self, read: Read, most: int, memory_left: Callable[[], int], trim: Callable[[], None]
    ) -> None:
        """Prepare; `read` reads a page, in one of `most` threads; `memory_left` returns bytes that may be taken; `trim`
        returns freed memory to the system: it is called when pages that were together are done, since the C library
        keeps what they took for the next ones."""
        self._read = read
        self._memory_left = memory_left
        self._trim = trim
        self._were_together = False
        self._left_at_first = 0
        """Memory that was left when the first of the pages came."""
        self._most = most
        self._pages: dict[int, _Page] = {}
        self._threads: ThreadPoolExecutor | None = None

    @property
    def free_slots(self) -> int:
        """Number of pages that fit: none beside another where memory is short, so that a limit of memory which
        suffices for one page suffices."""
        if self._pages:
            # Those inside may have taken nothing yet: pages come together, and detection comes after decoding.
            unreserved = self._left_at_first - len(self._pages) * BESIDE_BYTES
            if min(unreserved, self._memory_left()) < BESIDE_BYTES:
                return 0
        return self._most - len(self._pages)

    def admit(self, number: int, request: InferRequest) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._most, "page")
        if not self._pages:
            self._left_at_first = self._memory_left()
        unwanted = threading.Event()

        def check() -> None:
            if unwanted.is_set():
                raise _UnwantedError

        def work() -> PageResult:
            check()
            return self._read(request, check)

        self._pages[number] = _Page(self._threads.submit(work), unwanted)
        self._were_together = self._were_together or len(self._pages) > 1

    def cancel(self, number: int) -> bool:
        """Leave a page; return whether it is out. One whose thread is at work ends with the part that it is at, as an
        event: until then it takes memory and a thread, may end the worker, and may be stuck."""
        if (page := self._pages.get(number)) is None:
            return True
        page.unwanted.set()
        if not page.job.cancel():
            return False
        del self._pages[number]
        return True

    def events(self) -> list[Event]:
        """Wait for a moment, and return what pages have become. Raises where memory ran out for a page alone."""
        alone = len(self._pages) == 1
        wait([page.job for page in self._pages.values()], POLL_SECONDS, FIRST_COMPLETED)
        done = [number for number, page in self._pages.items() if page.job.done()]
        events: list[Event] = [(number, _answer(self._pages.pop(number).job, alone=alone)) for number in done]
        if self._were_together and not self._pages:
            self._were_together = False
            self._trim()
        return events

    def finish(self) -> None:
        """Drop all pages and wait until no thread is at work."""
        for number in list(self._pages):
            self.cancel(number)
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
        self._pages.clear()


def _answer(job: "Future[PageResult]", *, alone: bool) -> PageResult | Failure:
    try:
        return job.result()
    except EngineError as error:
        return error.failure
    except _UnwantedError:
        return Failure(kind=FailureKind.FAILED, message="cancelled")
    except Exception as error:
        if not limits.ran_out(error):
            log.exception("a page can't be read")
            return Failure(kind=FailureKind.FAILED, message=f"{type(error).__name__}: {error}")
        if alone:
            raise
        message = f"out of memory beside other pages: {error}"
        return Failure(kind=FailureKind.OUT_OF_MEMORY, message=message, of_host=True)
