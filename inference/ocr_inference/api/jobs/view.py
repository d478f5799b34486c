"""Job as clients see it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from ocr_inference.jobs.job import ENDED, Job, JobState
from ocr_inference.jobs.work import View
from ocr_wire.errors import ErrorInfo


class JobPages(Struct, frozen=True, kw_only=True):
    """Pages of a job, by number."""

    total: int
    """Pages that were requested."""
    done: int
    """Pages that have ended: read or failed."""
    failed: int
    """Pages that have an error in their place."""


class JobAnswer(Struct, frozen=True, kw_only=True):
    """Job. Times are Unix times in whole seconds, null where they aren't known."""

    id: str
    object: Literal["job"] = "job"
    state: JobState
    model: str
    filename: str = ""
    """Of its document, as its client named it."""
    pod: str
    """Which server has it; empty outside of Kubernetes."""
    queued_ahead: int | None
    """Jobs that are begun before this one; null once it has begun."""
    pages: JobPages
    pages_per_second: float | None
    """How fast pages end at the moment."""
    created_at: int
    started_at: int | None
    ended_at: int | None
    estimated_end_at: int | None
    """When it will be done at this rate."""
    expires_at: int | None
    """When its results are dropped."""
    error: ErrorInfo | None
    """Why it failed."""


@dataclass(frozen=True)
class Writer:
    """Writes jobs for clients."""

    pod: str
    keep_seconds: float
    now: Callable[[], float]
    """Clock of the jobs' times."""
    wall: Callable[[], float]
    """Unix time."""

    def answer(self, view: View) -> JobAnswer:
        job = view.job
        kept = job.state in ENDED and job.ended is not None
        rate = job.pages_per_second
        return JobAnswer(
            id=job.id,
            state=job.state,
            model=job.model,
            filename=view.name,
            pod=self.pod,
            queued_ahead=view.queued_ahead,
            pages=JobPages(total=job.pages, done=job.done, failed=job.failed),
            pages_per_second=None if rate is None else round(rate, 3),
            created_at=self._at(job.submitted),
            started_at=self._known(job.started),
            ended_at=self._known(job.ended),
            estimated_end_at=self._known(job.estimated_end),
            expires_at=self._known(self._expiry(job)) if kept else None,
            error=job.failure,
        )

    def _expiry(self, job: Job) -> float | None:
        return None if job.ended is None else job.ended + self.keep_seconds

    def _known(self, at: float | None) -> int | None:
        return None if at is None else self._at(at)

    def _at(self, at: float) -> int:
        return round(self.wall() - self.now() + at)
