"""Lease, which keeps a model ready while a request uses it, and the reading of pages with it.

A page goes from the request's own task straight to the worker, since a lease guarantees that the model stays ready.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from msgspec import structs

from ocr_inference.config.settings import Batching
from ocr_inference.manager.continuation import Continuation, Differs
from ocr_inference.manager.inbox import Inbox, Refused
from ocr_inference.manager.page_history import PageHistory
from ocr_inference.protocol.engine import Delta, EngineError, Failure, FailureKind, PageResult, Shortage
from ocr_inference.protocol.page_file import Page
from ocr_inference.scheduling import attempts, memory_ladder, suspects
from ocr_inference.scheduling.attempts import Next, Verdict
from ocr_inference.scheduling.commands import Acquire, Cancel, Release
from ocr_inference.scheduling.memory_ladder import Rung, Step
from ocr_inference.scheduling.state import Reason, Refusal
from ocr_inference.scheduling.suspects import Suspect
from ocr_inference.workers.pending import Reads
from ocr_inference.workers.worker import Result, WorkerLost

log = logging.getLogger(__name__)

Job = asyncio.Future[Result]

STUCK_SECONDS = 60.0
"""Time after its deadline at which a page that is still being read counts as stuck, and its worker is killed, whether
or not a client waits for it: else it would hold its lease, and with it the device, for ever."""


class Lease:
    """Right to use a ready model, from a `Manager.lease` block; one page at a time."""

    def __init__(
        self,
        inbox: Inbox,
        history: PageHistory,
        model: str,
        deadline: float,
        *,
        since: float,
        now: Callable[[], float],
        batching: Callable[[], Batching],
        stuck_seconds: float,
        evict_idle: Callable[[], Awaitable[bool]],
    ) -> None:
        """Prepare; `deadline` and `since` (when the request came) are times of the clock `now`, and `batching` is
        called for each page. A page that isn't read `stuck_seconds` after the deadline ends its worker. `evict_idle`
        offloads idle models for a page for which memory ran out, and returns whether one went."""
        self.model = model
        self.deadline = deadline
        self.since = since
        self._inbox = inbox
        self._history = history
        self._now = now
        self._batching = batching
        self._stuck_seconds = stuck_seconds
        self._ticket = 0
        self._worker: Reads | None = None
        self._job: Job | None = None
        self._alone = False
        self._evict_idle = evict_idle

    async def infer(self, page: Page) -> PageResult:
        """Read one page. Raises `EngineError` (a bad page, an engine that fails) and `Refused` (deadline).

        Reading a page changes nothing, so when the worker dies meanwhile, a new worker reads the page again: alone if
        it had been begun, since it may be the cause then. A page that kills a second worker is refused. Where an engine
        fails for several pages together, each is read again alone (`attempts`). Where memory runs out, what
        `memory_ladder` says is tried, before the page fails.
        """
        async with aclosing(self._read(page, stream=False)) as answers:
            async for answer in answers:
                if isinstance(answer, PageResult):
                    return answer
        raise AssertionError("an answer ends with a result")

    def stream(self, page: Page) -> AsyncGenerator[Delta | PageResult, None]:
        """Read one page and yield its answer as it is written: any number of `Delta`, then the `PageResult`.

        The pieces, joined, are the result's text; engines that don't write in pieces yield one. Raises what `infer`
        raises. After a worker's death, or a failure of several pages, the page is read again, and the answer goes on
        where it was; one that comes out another way than its beginning is an error. Use it in `contextlib.aclosing`:
        leaving early makes the worker stop writing.
        """
        return self._read(page, stream=True)

    async def _read(self, page: Page, *, stream: bool) -> AsyncGenerator[Delta | PageResult, None]:
        tried, answer = _Tried(), Continuation()
        while True:
            tried.note(await self._history.find(self.model, page))
            self._refuse_killer(tried.kills)
            if self._worker is None or (tried.alone_next and not self._alone):
                await self._acquire(again=True, alone=tried.alone_next)
                continue  # a copy of this page may have killed a worker meanwhile
            answer.begin()
            try:
                async with aclosing(self._attempt(_at(page, tried.climbed), stream=stream)) as parts:
                    async for part in parts:
                        if isinstance(part, PageResult):
                            await self._acquit(page, tried)
                            answer.end()
                            self._log_memory(part)
                            yield _with_step(part, tried.climbed)
                        elif fresh := answer.add(part.text):
                            yield structs.replace(part, text=fresh)
            except Differs:
                assert tried.failure is not None  # a first attempt repeats nothing
                raise EngineError(tried.failure) from None
            except WorkerLost as lost:
                log.warning(
                    "worker died before a page was read; reading it again", extra={"model": self.model}
                )
                tried.kills += lost.begun
                self._worker, tried.failure = None, lost.failure
            except EngineError as error:
                if not await self._goes_on(page, tried, error.failure, begun=answer.begun):
                    raise
            else:
                return

    async def _goes_on(self, page: Page, tried: "_Tried", failure: Failure, *, begun: bool) -> bool:
        """Note a failure of the page while its worker lives; return whether it is read again. `begun`: whether a part
        of its answer was sent."""
        match attempts.verdict(failure, suspected=tried.suspected):
            case Verdict.ACQUITTED:
                await self._acquit(page, tried)
            case Verdict.CAUSE:
                await self._history.record_failure(self.model, page)
            case Verdict.OPEN:
                pass
        tried.failure = failure
        match attempts.next_step(failure, alone=self._alone):
            case Next.FAIL:
                return False
            case Next.ALONE:
                tried.suspected, fields = True, {"model": self.model}
                log.warning(
                    "several pages failed together; reading each alone: %s", failure.message, extra=fields
                )
            case Next.CLIMB:
                named = page.options.resolution is not None
                fixed = named or begun
                tried.climbed.append(await self._climb(tried.climbed, failure, named=named, fixed=fixed))
                tried.failure = _out_of_memory(self.model, failure, tried.climbed, named=named)
        return True

    async def _climb(self, climbed: Sequence[Rung], failure: Failure, *, named: bool, fixed: bool) -> Rung:
        """Return what to try next after memory ran out; raises the final failure where nothing is left."""
        evictable = True
        while rung := memory_ladder.next_rung(
            climbed, failure.smaller, fixed=fixed, evictable=evictable, of_host=failure.of_host
        ):
            fields = {"model": self.model, "step": rung.step}
            if rung.step is not Step.EVICTED or await self._evicted():
                log.warning("memory ran out for a page; trying again: %s", failure.message, extra=fields)
                return rung
            evictable = False
        raise EngineError(_out_of_memory(self.model, failure, climbed, named=named))

    async def _evicted(self) -> bool:
        """Have idle models make way, within the deadline; return whether one did."""
        try:
            async with asyncio.timeout(max(0.0, self.deadline - self._now())):
                return await self._evict_idle()
        except TimeoutError:
            message = f"the deadline passed while idle models made way for a page of model {self.model}"
            raise Refused(Refusal(Reason.DEADLINE, message)) from None

    def _refuse_killer(self, kills: int) -> None:
        if kills >= suspects.MAX_KILLS:
            raise EngineError(_refused_page(self.model, kills))

    async def _acquit(self, page: Page, tried: "_Tried") -> None:
        """Suspect the page no more: a worker was done with it and lives."""
        if tried.recorded or tried.kills:
            await self._history.acquit(self.model, page)

    def _log_memory(self, page: PageResult) -> None:
        if page.memory is not None:
            before, after = page.memory
            log.debug("page read; memory before: %s; after: %s", before, after, extra={"model": self.model})

    async def _attempt(self, page: Page, *, stream: bool) -> AsyncGenerator[Delta | PageResult, None]:
        assert self._worker is not None
        worker, batching = self._worker, self._batching()
        pieces: asyncio.Queue[Delta | None] = asyncio.Queue()
        job = worker.infer(
            page,
            max_pages=batching.max_pages,
            max_wait_seconds=batching.max_wait_milliseconds / 1000,
            limit_seconds=max(0.0, self.deadline - self._now()) + self._stuck_seconds,
            on_delta=pieces.put_nowait if stream else None,
        )
        job.add_done_callback(lambda _: pieces.put_nowait(None))
        self._job = job
        streamed = False
        try:
            while (piece := await self._next(pieces)) is not None:
                streamed = True
                yield piece
            result = job.result()
            assert isinstance(result, PageResult)
            if stream and result.text and not streamed:
                yield Delta(
                    text=result.text,
                    prompt_tokens=result.prompt_tokens,
                    completion_tokens=result.completion_tokens,
                )
            yield result
        finally:
            if job.done():
                self._job = None
            else:
                worker.forget(job)
            # What the job raises has a traceback with this frame: together a circle that would keep the page's memory.
            del job

    async def _next(self, pieces: "asyncio.Queue[Delta | None]") -> Delta | None:
        try:
            async with asyncio.timeout(max(0.0, self.deadline - self._now())):
                # The worker goes on when the client has left: the lease ends with its work, not with the wait.
                return await pieces.get()
        except TimeoutError:
            message = f"the deadline passed while model {self.model} was reading the page"
            raise Refused(Refusal(Reason.DEADLINE, message)) from None

    async def begin(self, page: Page | None, *, waited: float | None = None) -> None:
        """Queue and wait for the model; called by `Manager.lease`. Raises `EngineError` before, where `page` is
        refused. Another pod may read it, unless it has `waited` in one: it is that much older here."""
        found = None if page is None else await self._history.find(self.model, page)
        self._refuse_killer(0 if found is None else found.kills)
        if waited is not None:
            self.since -= waited
        movable = page is not None and found is None and waited is None
        await self._acquire(alone=found is not None, movable=movable, aged=waited is not None)

    async def _acquire(
        self, *, again: bool = False, alone: bool = False, movable: bool = False, aged: bool = False
    ) -> None:
        """Queue and wait for the model. A page that is read `alone` shares its worker with no other; another pod may
        read one that is `movable`. One that is `aged` keeps its place though it queues here for the first time."""
        if again:
            self.release()
        self._ticket, self._worker, self._job, self._alone = 0, None, None, alone
        since = self.since if again or aged else None
        ticket, answer = self._inbox.ticket()
        self._inbox.post(Acquire(ticket, self.model, self.deadline, since, alone=alone, movable=movable))
        try:
            self._worker = await answer
        except asyncio.CancelledError:
            self._inbox.post(Cancel(ticket))
            raise
        finally:
            del answer  # what it raises has a traceback with this frame: a circle
        assert self._worker is not None
        self._ticket = ticket

    def release(self) -> None:
        """Give the lease back as soon as the worker is done with the page."""
        ticket, job = self._ticket, self._job
        self._ticket = 0
        if not ticket:
            return
        if job is None or job.done():
            self._inbox.post(Release(ticket))
        else:
            if self._worker is not None:
                self._worker.forget(job)  # an answer in pieces that isn't read any more
            job.add_done_callback(lambda _: self._inbox.post(Release(ticket)))


@dataclass
class _Tried:
    """Attempts to read one page so far."""

    kills: int = 0
    """Workers that died while they read it."""
    suspected: bool = False
    """Whether it may be what several pages failed of."""
    recorded: bool = False
    """Whether the history has it."""
    climbed: list[Rung] = field(default_factory=list)
    failure: Failure | None = None
    """Failure of the last attempt."""

    def note(self, found: Suspect | None) -> None:
        """Note what the history has of the page."""
        self.recorded = found is not None
        if found is not None:
            self.kills = max(self.kills, found.kills)
            self.suspected = self.suspected or not found.kills

    @property
    def alone_next(self) -> bool:
        """Whether the next attempt shares its worker with no other page."""
        return bool(self.kills or self.suspected or self.climbed)


def _at(page: Page, climbed: Sequence[Rung]) -> Page:
    """Return the page to be read at the size of the last rung."""
    read_at = climbed[-1].read_at if climbed else None
    return page if read_at is None else replace(page, options=structs.replace(page.options, read_at=read_at))


def _with_step(page: PageResult, climbed: Sequence[Rung]) -> PageResult:
    """Return the result with the step that made it."""
    if not climbed:
        return page
    step = climbed[-1].step
    read_at = None if page.shortage is None else page.shortage.read_at
    return structs.replace(page, shortage=Shortage(read_at=read_at, step=step, why=memory_ladder.WHY[step]))


def _out_of_memory(model: str, failure: Failure, climbed: Sequence[Rung], *, named: bool) -> Failure:
    tried = ", ".join(rung.read_at or rung.step for rung in climbed)
    message = (
        f"memory ran out for this page of model {model}, whatever was tried ({tried}): {failure.message}"
    )
    advice = memory_ladder.suggestions(failure.smaller, named=named, of_host=failure.of_host)
    return structs.replace(failure, message=message, suggestions=advice)


def _refused_page(model: str, kills: int) -> Failure:
    minutes = suspects.KEEP_SECONDS / 60
    message = (
        f"{kills} workers of model {model} died while they read this page; it is refused for {minutes:g} minutes: "
        "send it in another format or resolution"
    )
    return Failure(kind=FailureKind.PAGE_KILLS_WORKER, message=message, param="file")
