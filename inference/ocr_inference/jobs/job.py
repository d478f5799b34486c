"""Job as a value: a document and how far it is read."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Self

from ocr_wire.errors import ErrorInfo

RECENT_PAGES: Final = 16
"""Pages that the rate is measured over: it follows what other requests leave, and jumps with no single page."""


class JobState(StrEnum):
    QUEUED = "queued"
    """No page was begun yet."""
    RUNNING = "running"
    DONE = "done"
    """Each page was read, or has its error in its place."""
    FAILED = "failed"
    """Pages are missing, because of something that concerns all of them."""
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """The results are gone."""


ENDED: Final = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})
"""States in which nothing is read any more and results are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Job. Times are seconds of a monotonic clock; positions count the requested pages from 0."""

    id: str
    model: str
    pages: int
    """Number of pages that are requested, 1 at least."""
    document_bytes: int
    """Kept after the end, too, for files with its pages; 0 once it was dropped."""
    submitted: float
    state: JobState = JobState.QUEUED
    started: float | None = None
    ended: float | None = None
    begun: int = 0
    """Pages that were begun, which are the first ones."""
    reading: int = 0
    """Pages that were begun and haven't ended."""
    read: int = 0
    failed: int = 0
    result_bytes: int = 0
    recent: tuple[float, ...] = ()
    """When the first page began, or a page before the recent ones ended; then when these ended."""
    failure: ErrorInfo | None = None
    """Why it failed."""

    @property
    def is_unfinished(self) -> bool:
        return self.state in (JobState.QUEUED, JobState.RUNNING)

    @property
    def done(self) -> int:
        """Pages that have ended, well or badly."""
        return self.read + self.failed

    @property
    def pages_per_second(self) -> float | None:
        """Pages that end in a second; None before the first one has."""
        if len(self.recent) < 2:
            return None
        return (len(self.recent) - 1) / max(self.recent[-1] - self.recent[0], 1e-3)

    @property
    def estimated_end(self) -> float | None:
        """Time at which it will be done at this rate; None before there is one."""
        rate = self.pages_per_second
        if not self.is_unfinished or rate is None:
            return None
        return self.recent[-1] + (self.pages - self.done) / rate

    def with_page_begun(self, now: float) -> Self:
        return replace(
            self,
            state=JobState.RUNNING,
            started=now if self.started is None else self.started,
            recent=self.recent or (now,),
            begun=self.begun + 1,
            reading=self.reading + 1,
        )

    def with_page_ended(self, now: float, result_bytes: int, *, read: bool) -> Self:
        return replace(
            self,
            reading=self.reading - 1,
            read=self.read + read,
            failed=self.failed + (not read),
            result_bytes=self.result_bytes + result_bytes,
            recent=(*self.recent, now)[-RECENT_PAGES - 1 :],
        )

    def ended_as(self, state: JobState, now: float, failure: ErrorInfo | None = None) -> Self:
        return replace(self, state=state, ended=now, reading=0, failure=failure)
