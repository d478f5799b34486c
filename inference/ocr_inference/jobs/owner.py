"""The owner of all jobs: what the tables decide is carried out here, and nowhere else.

Each turn of a job is a task with a renderer of its own, which takes a page from the document whenever the table begins
one; each page is a task from then on. All of them end with the job.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from functools import partial

from ocr_inference import errors
from ocr_inference.documents import document
from ocr_inference.documents.document import Document
from ocr_inference.documents.page import PageFault, PageImage
from ocr_inference.documents.selection import Selection
from ocr_inference.errors import ApiError
from ocr_inference.jobs import again, table
from ocr_inference.jobs.job import Job, JobState
from ocr_inference.jobs.table import BeginPage, Decided, DropDocument, DropResults, JobTable, Limits, Stop
from ocr_inference.jobs.work import Counts, Record, View, Work
from ocr_inference.protocol.latest import Latest
from ocr_inference.protocol.page_file import PageFile

log = logging.getLogger(__name__)


class Jobs:
    """Owner of all jobs. `run` must be running for pages to be read."""

    def __init__(
        self,
        limits: Limits,
        window: Callable[[str, int], int],
        *,
        now: Callable[[], float],
        counts: Counts | None = None,
    ) -> None:
        """Prepare. `window` returns how many pages of a model may be begun, when so many pages of its jobs use it."""
        self.instance = secrets.token_hex(4)
        """In each id, so that an id of another process is known as such."""
        self.now = now
        self.watchers = 0
        """Clients that follow a job at the moment."""
        self._table = JobTable(limits)
        self._window = window
        self._counts = counts or Counts()
        self._records: dict[str, Record] = {}
        self._using: dict[str, int] = {}
        """Pages that are being read, by model."""
        self._tasks: asyncio.TaskGroup | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed: ApiError | None = None

    # --- calls of other tasks ---------------------------------------------------------------------------------

    def submit(self, work: Work) -> View:
        """Queue a document, whose file is the job's from now on. Raises `table.JobsFull` and leaves the file; raises
        what `close` was called with afterwards."""
        if self._closed is not None:
            raise self._closed.fresh()
        id_ = f"job-{self.instance}-{secrets.token_hex(12)}"
        size, now = work.file.size, self.now()
        job = Job(id=id_, model=work.model, pages=len(work.indices), document_bytes=size, submitted=now)
        decided = table.submit(self._table, job, now)
        view = View(job, decided[0].queued_ahead(job), work.name)
        self._records[id_] = Record(
            Latest(view), [None] * job.pages, work, work.file, work.indices, work.name, work.owner
        )
        self._become(decided)
        return self._records[id_].latest.value

    def view(self, id_: str) -> View | None:
        """Return the job; None where it isn't known."""
        record = self._records.get(id_)
        return None if record is None else record.latest.value

    def of(self, owner: str) -> list[View]:
        """Return the jobs of one owner, the latest first; those whose results are gone aren't among them."""
        views = (record.latest.value for record in self._records.values() if record.owner == owner)
        return [view for view in views if view.job.state is not JobState.EXPIRED][::-1]

    def document(self, id_: str) -> PageFile | None:
        """Return a handle on the job's document, which the caller closes; None where it isn't kept any more."""
        record = self._records.get(id_)
        return None if record is None or record.document is None else record.document.share()

    def results(self, id_: str, first: int = 0) -> Iterator[bytes]:
        """Yield the results of pages in their order, from a position up to the first page that hasn't ended."""
        record = self._records.get(id_)
        for result in () if record is None else record.results[first:]:
            if result is None:
                return
            yield result

    def indices(self, id_: str) -> tuple[int, ...]:
        """Return which pages of its document a job has, from 0; none where it isn't known."""
        record = self._records.get(id_)
        return () if record is None else record.indices

    def result(self, id_: str, position: int) -> bytes | None:
        """Return the result of a page; None where it hasn't ended, or is gone."""
        record = self._records.get(id_)
        return None if record is None or position >= len(record.results) else record.results[position]

    async def follow(self, id_: str) -> AsyncGenerator[View]:
        """Yield the job now and after each change; a slow reader skips those in between. Ends with the job."""
        async for view in self._records[id_].latest.follow():
            yield view

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count a client that follows a job, while the block runs."""
        self.watchers += 1
        try:
            yield
        finally:
            self.watchers -= 1

    def cancel(self, id_: str) -> View | None:
        """End a job; one that has ended is dropped with its results. Returns None where it isn't known."""
        if id_ not in self._records:
            return None
        self._become(table.cancel(self._table, id_, self.now()))
        return self.view(id_)

    def count(self, state: JobState) -> int:
        return self._table.count(state)

    def document_bytes(self) -> int:
        return self._table.document_bytes

    def result_bytes(self) -> int:
        return self._table.result_bytes

    def close(self, error: ApiError) -> None:
        """Fail all jobs that haven't ended, and take no further ones: the server goes down."""
        self._closed = error
        for id_ in tuple(self._records):
            self._fail(id_, error)

    # --- the owner task ---------------------------------------------------------------------------------------

    async def run(self, changes: AsyncIterator[object]) -> None:
        """Read pages until cancelled. After each of the `changes` more may be begun than before."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._begin()
                async for _ in changes:
                    self._begin()
        finally:
            self._tasks = None
            if self._timer is not None:
                self._timer.cancel()
            for record in self._records.values():
                self._drop_document(record)

    def _become(self, decided: Decided) -> None:
        """Carry out a decision, and begin what may be begun then."""
        self._perform(decided)
        self._publish()
        self._begin()

    def _begin(self) -> None:
        """Begin what may be begun; most of the time nothing may."""
        models = [model for model, queue in self._table.queues.items() if queue]
        if self._tasks is None or not models:
            return
        windows = {model: self._window(model, self._using.get(model, 0)) for model in models}
        decided = table.begin_pages(self._table, windows, self.now())
        if decided[1]:
            self._perform(decided)
            self._publish()

    def _perform(self, decided: Decided) -> None:
        self._table, effects = decided
        for effect in effects:
            match effect:
                case BeginPage():
                    self._begin_page(effect)
                case Stop(id_):
                    self._stop(self._records[id_])
                    self._counts.end(self._table.jobs[id_].state)
                case DropDocument(id_):
                    self._drop_document(self._records[id_])
                case DropResults(id_):
                    self._records[id_].results = []
                    self._drop_document(self._records[id_])

    def _publish(self) -> None:
        for id_ in tuple(self._records):
            job, record = self._table.jobs.get(id_), self._records[id_]
            if job is None:
                record.latest.close()
                del self._records[id_]
                continue
            if job is record.latest.value.job and job.state is not JobState.QUEUED:
                continue  # most jobs, which have ended: only a place in a queue changes without its job
            record.latest.publish(View(job, self._table.queued_ahead(job), record.name))
            if not (job.is_unfinished or record.latest.closed):
                record.latest.close()
        if self._timer is not None:
            self._timer.cancel()
        at = self._table.next_expiry()
        if at is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, at - self.now()), self._expire)

    def _expire(self) -> None:
        self._become(table.expire(self._table, self.now()))

    def _stop(self, record: Record) -> None:
        current = asyncio.current_task()
        for task in record.tasks:
            if task is not current:
                task.cancel()
        record.work = record.turn = None

    def _drop_document(self, record: Record) -> None:
        if record.document is not None:
            record.document.close()
            record.document = None

    def _begin_page(self, effect: BeginPage) -> None:
        record = self._records[effect.job]
        if record.turn is None:
            record.turn = asyncio.Queue()
            turn = partial(self._turn, effect.job, record, effect.position, record.turn)
            self._spawn(effect.job, record, turn)
        record.turn.put_nowait(effect)
        if effect.ends_turn:
            record.turn = None

    def _spawn(self, id_: str, record: Record, work: Callable[[], Awaitable[None]]) -> None:
        assert self._tasks is not None
        task = self._tasks.create_task(self._guarded(id_, work))
        record.tasks.add(task)
        task.add_done_callback(record.tasks.discard)

    async def _guarded(self, id_: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run a task of a job, which fails by itself with whatever is raised."""
        try:
            await work()
        except ApiError as error:
            self._fail(id_, error)
        except Exception:
            log.exception("job failed job=%s", id_)
            message = f"this server has a fault; its log has the details under {id_}"
            self._fail(id_, ApiError(500, errors.UNKNOWN.code, message))

    # --- what tasks do ----------------------------------------------------------------------------------------

    async def _turn(self, id_: str, record: Record, first: int, begun: asyncio.Queue[BeginPage]) -> None:
        """Take the pages of a turn, from position `first`, from the document; raises `ApiError` where it can't be
        opened any more."""
        assert record.work is not None
        work = record.work
        async with AsyncExitStack() as stack:
            opened = await self._opened(stack, work)
            selection = Selection.of_indices(work.indices[first:])
            pages = await stack.enter_async_context(aclosing(opened.pages(selection, work.dpi)))
            while True:
                effect = await begun.get()
                page = await anext(pages)
                self._spawn(id_, record, partial(self._read, id_, work, effect.position, page))
                if effect.ends_turn:
                    return

    async def _opened(self, stack: AsyncExitStack, work: Work) -> Document:
        tries = 0
        while True:
            tries += 1
            try:
                return await stack.enter_async_context(document.opened(work.file, work.limits))
            except ApiError as error:
                seconds = again.delay(error, tries)
                if seconds is None:
                    raise
            await asyncio.sleep(seconds)

    async def _read(self, id_: str, work: Work, position: int, page: PageImage | PageFault) -> None:
        if isinstance(page, PageFault):
            self._end_page(id_, position, work.refused(page.index, page.error), read=False)
            return
        self._using[work.model] = self._using.get(work.model, 0) + 1
        try:
            with page.file:
                result = await self._tried(work, page)
        except ApiError as error:
            if again.ends_job(error):
                self._fail(id_, error)
            else:
                self._end_page(id_, position, work.refused(page.index, error), read=False)
        else:
            self._end_page(id_, position, result, read=True)
        finally:
            self._using[work.model] -= 1

    async def _tried(self, work: Work, page: PageImage) -> bytes:
        """Read a page, again where that may help; raises `ApiError`."""
        tries = 0
        while True:
            tries += 1
            try:
                return await work.read(page)
            except ApiError as error:
                seconds = again.delay(error, tries)
                if seconds is None:
                    raise
                if error.code not in again.BUSY:
                    log.warning("page of a job is tried again in %g s: %s", seconds, error.message)
            await asyncio.sleep(seconds)

    def _end_page(self, id_: str, position: int, result: bytes, *, read: bool) -> None:
        before = self._table.jobs.get(id_)
        decided = table.end_page(self._table, id_, len(result), self.now(), read=read)
        after = decided[0].jobs.get(id_)
        if before is not None and after is not None and after.done > before.done:
            self._records[id_].results[position] = result
            self._counts.page("read" if read else "failed")
        self._become(decided)

    def _fail(self, id_: str, error: ApiError) -> None:
        self._become(table.fail(self._table, id_, error.info, self.now()))
