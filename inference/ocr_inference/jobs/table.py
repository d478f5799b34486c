"""Decides which page of which job is begun next, and which results are kept. Values in, values out; `owner` acts.

The jobs of a model take turns, in the order of their coming. A turn ends after `TURN_SECONDS` where others wait, so a
short document waits for a turn of each job before it, not for their ends. It also ends after `TURN_PAGES`: a turn has a
renderer of its own, whose memory and time would grow with the document.

At most so many pages of a model are begun at a time as its window says (`share`): all other places are those of
requests that a client waits for.

Documents and results take memory together. Where that runs out, documents of jobs that have ended go first, which only
files with their pages need, then their results, those that ended first before others; then a new job is refused, and
one whose results don't fit fails.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from ocr_inference.jobs.job import ENDED, Job, JobState
from ocr_wire.errors import ErrorInfo

TURN_SECONDS: Final = 10.0
TURN_PAGES: Final = 64
MAX_EXPIRED: Final = 1000
"""Jobs that are known as expired; older ones are unknown."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of all jobs together."""

    unfinished: int = 64
    """Jobs that are queued or run."""
    ended: int = 1024
    """Jobs whose results are kept: a list of pictures in the web page is as many jobs, and is exported as a whole."""
    memory_bytes: int = 128 << 20
    """Of all documents and all results."""
    keep_seconds: float = 3600.0
    """Time that results are kept after a job's end."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Turn of the first job in a model's queue."""

    since: float
    pages: int = 0


@dataclass(frozen=True, slots=True)
class JobTable:
    """Table of all jobs. Each function below returns the next one, and effects to be carried out in their order."""

    limits: Limits = field(default_factory=Limits)
    jobs: Mapping[str, Job] = field(default_factory=dict)
    """By id, in the order of their coming."""
    queues: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By model: jobs that have pages to begin, in the order of their turns."""
    turns: Mapping[str, Turn] = field(default_factory=dict)
    """By model, of the first job in its queue."""

    @property
    def document_bytes(self) -> int:
        return sum(job.document_bytes for job in self.jobs.values())

    @property
    def result_bytes(self) -> int:
        return sum(job.result_bytes for job in self.jobs.values())

    @property
    def used_bytes(self) -> int:
        return self.document_bytes + self.result_bytes

    def count(self, *states: JobState) -> int:
        return sum(job.state in states for job in self.jobs.values())

    def reading(self, model: str) -> int:
        """Return how many pages of the model's jobs are being read."""
        return sum(job.reading for job in self.jobs.values() if job.model == model)

    def queued_ahead(self, job: Job) -> int | None:
        """Return how many jobs have a turn before this one begins; None where it has begun or ended."""
        if job.state is not JobState.QUEUED:
            return None
        return self.queues[job.model].index(job.id)

    def next_expiry(self) -> float | None:
        """Return when the first results are to be dropped for their age."""
        ends = [job.ended for job in self.jobs.values() if job.state in ENDED and job.ended is not None]
        return min(ends) + self.limits.keep_seconds if ends else None


class JobsFull(Exception):
    """Refusal of a new job; says why."""


@dataclass(frozen=True, slots=True)
class BeginPage:
    """Begin to read a page of a job."""

    job: str
    position: int
    ends_turn: bool
    """Whether the document can be closed once this page is rendered."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Read nothing more of a job."""

    job: str


@dataclass(frozen=True, slots=True)
class DropDocument:
    """Free the document of a job that has ended."""

    job: str


@dataclass(frozen=True, slots=True)
class DropResults:
    """Free a job's results, and its document, if that is still there."""

    job: str


Effect = BeginPage | Stop | DropDocument | DropResults
Decided = tuple[JobTable, tuple[Effect, ...]]


def submit(table: JobTable, job: Job, now: float) -> Decided:
    """Queue a new job; raises `JobsFull`."""
    limits = table.limits
    if table.count(JobState.QUEUED, JobState.RUNNING) >= limits.unfinished:
        raise JobsFull(f"{limits.unfinished} jobs are queued or run, which is the limit")
    table, effects = _make_room(table, job.document_bytes, now)
    if table.used_bytes + job.document_bytes > limits.memory_bytes:
        raise JobsFull(
            f"documents of other jobs and their results take {table.used_bytes} of {limits.memory_bytes} bytes, "
            f"and this document has {job.document_bytes}"
        )
    queue = (*table.queues.get(job.model, ()), job.id)
    table = replace(_with(table, job), queues={**table.queues, job.model: queue})
    return table, effects


def begin_pages(table: JobTable, windows: Mapping[str, int], now: float) -> Decided:
    """Begin as many pages as the windows, by model, allow."""
    effects: list[Effect] = []
    for model, window in windows.items():
        for _ in range(window - table.reading(model)):
            if not table.queues.get(model):
                break
            table, effect = _begin(table, model, now)
            effects.append(effect)
    return table, tuple(effects)


def end_page(table: JobTable, id_: str, result_bytes: int, now: float, *, read: bool) -> Decided:
    """Note the end of a page, whose result takes so many bytes; of a job that has ended nothing is noted. Where the
    result doesn't fit, it isn't kept, and the job fails."""
    job = table.jobs.get(id_)
    if job is None or job.state is not JobState.RUNNING:
        return table, ()
    table, effects = _make_room(table, result_bytes, now)
    if table.used_bytes + result_bytes > table.limits.memory_bytes:
        failure = ErrorInfo(
            message=f"the results of jobs take more than {table.limits.memory_bytes} bytes: fetch and delete them, "
            "or request fewer pages at a time",
            type="insufficient_memory_error",
            code="results_too_large",
        )
        failed, more = fail(table, id_, failure, now)
        return failed, (*effects, *more)
    job = job.with_page_ended(now, result_bytes, read=read)
    table = _with(table, job)
    if job.done == job.pages:
        ended, more = _end(table, job, JobState.DONE, now)
        return ended, (*effects, *more)
    return table, effects


def fail(table: JobTable, id_: str, failure: ErrorInfo, now: float) -> Decided:
    """End a job because of something that concerns all of its pages; those that were read are kept."""
    job = table.jobs.get(id_)
    if job is None or not job.is_unfinished:
        return table, ()
    return _end(table, job, JobState.FAILED, now, failure)


def cancel(table: JobTable, id_: str, now: float) -> Decided:
    """End a job, and keep the pages that were read; one that has ended already is expired."""
    job = table.jobs.get(id_)
    if job is None:
        return table, ()
    if job.is_unfinished:
        return _end(table, job, JobState.CANCELLED, now)
    if job.state is JobState.EXPIRED:
        return table, ()
    return _forget_oldest(_expired(table, job)), (DropResults(id_),)


def expire(table: JobTable, now: float) -> Decided:
    """Drop results that are too old, or too many."""
    limits = table.limits
    ended = _ended(table)
    old = [job for job in ended if job.ended is not None and job.ended + limits.keep_seconds <= now]
    too_many = ended[: max(0, len(ended) - limits.ended)]
    return _expire(table, ended[: max(len(old), len(too_many))])


# --- parts of decisions ---------------------------------------------------------------------------------------


def _begin(table: JobTable, model: str, now: float) -> tuple[JobTable, BeginPage]:
    """Begin a page of the job whose turn it is."""
    first, *others = table.queues[model]
    job = table.jobs[first]
    position = job.begun
    job = job.with_page_begun(now)
    turn = table.turns.get(model, Turn(now))
    turn = replace(turn, pages=turn.pages + 1)
    exhausted = job.begun == job.pages
    is_long = bool(others) and now - turn.since >= TURN_SECONDS
    ends = exhausted or is_long or turn.pages >= TURN_PAGES
    table = _with(table, job)
    if not ends:
        return replace(table, turns={**table.turns, model: turn}), BeginPage(first, position, ends_turn=False)
    queue = (*others,) if exhausted else (*others, first)
    turns = {name: each for name, each in table.turns.items() if name != model}
    table = replace(table, turns=turns, queues={**table.queues, model: queue})
    return table, BeginPage(first, position, ends_turn=True)


def _end(table: JobTable, job: Job, state: JobState, now: float, failure: ErrorInfo | None = None) -> Decided:
    queue = table.queues.get(job.model, ())
    turns = table.turns
    if queue and queue[0] == job.id:
        turns = {name: each for name, each in turns.items() if name != job.model}
    queues = {**table.queues, job.model: tuple(each for each in queue if each != job.id)}
    table = replace(_with(table, job.ended_as(state, now, failure)), queues=queues, turns=turns)
    table, effects = expire(table, now)
    return table, (Stop(job.id), *effects)


def _make_room(table: JobTable, size: int, now: float) -> Decided:
    """Drop what is too old, then documents and at last results of ended jobs until `size` more bytes fit, if they do
    then."""
    table, effects = expire(table, now)
    excess = table.used_bytes + size - table.limits.memory_bytes
    documents, going = [], []
    for job in _ended(table):
        if excess <= 0:
            break
        if job.document_bytes:
            excess -= job.document_bytes
            documents.append(job)
    for job in _ended(table):
        if excess <= 0:
            break
        excess -= job.result_bytes
        going.append(job)
    if excess > 0:
        return table, effects
    for job in documents:
        table = _with(table, replace(job, document_bytes=0))
    table, more = _expire(table, going)
    gone = frozenset(job.id for job in going)
    dropped = (DropDocument(job.id) for job in documents if job.id not in gone)
    return table, (*effects, *dropped, *more)


def _ended(table: JobTable) -> list[Job]:
    """Return jobs whose results are kept, by when they ended."""
    ended = [job for job in table.jobs.values() if job.state in ENDED]
    return sorted(ended, key=lambda job: job.ended or 0.0)


def _expire(table: JobTable, jobs: Iterable[Job]) -> Decided:
    effects = []
    for job in jobs:
        table = _expired(table, job)
        effects.append(DropResults(job.id))
    return _forget_oldest(table), tuple(effects)


def _expired(table: JobTable, job: Job) -> JobTable:
    return _with(table, replace(job, state=JobState.EXPIRED, document_bytes=0, result_bytes=0))


def _forget_oldest(table: JobTable) -> JobTable:
    expired = [id_ for id_, job in table.jobs.items() if job.state is JobState.EXPIRED]
    gone = frozenset(expired[: max(0, len(expired) - MAX_EXPIRED)])
    if not gone:
        return table
    return replace(table, jobs={id_: job for id_, job in table.jobs.items() if id_ not in gone})


def _with(table: JobTable, job: Job) -> JobTable:
    return replace(table, jobs={**table.jobs, job.id: job})
