"""Lease, which keeps a model ready while a request uses it, and the reading of pages with it.

A page goes from the request's own task straight to the worker, since a lease guarantees that the model stays ready.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from ocr_inference.config.settings import Batching
from ocr_inference.manager.inbox import Inbox, Refused
from ocr_inference.manager.page_history import PageHistory
from ocr_inference.protocol.engine import Delta, EngineError, Failure, FailureKind, InferRequest, PageResult
from ocr_inference.scheduling import suspects
from ocr_inference.scheduling.state import Acquire, Cancel, Reason, Refusal, Release
from ocr_inference.workers.worker import Result, Worker, WorkerLost

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
    ) -> None:
        """Prepare; `deadline` and `since` (when the request came) are times of the clock `now`, and `batching` is
        called for each page. A page that isn't read `stuck_seconds` after the deadline ends its worker."""
        self.model = model
        self.deadline = deadline
        self.since = since
        self._inbox = inbox
        self._history = history
        self._now = now
        self._batching = batching
        self._stuck_seconds = stuck_seconds
        self._ticket = 0
        self._worker: Worker | None = None
        self._job: Job | None = None
        self._alone = False

    async def infer(self, request: InferRequest) -> PageResult:
        """Read one page. Raises `EngineError` (a bad page, an engine that fails) and `Refused` (deadline).

        Reading a page changes nothing, so when the worker dies meanwhile, a new worker reads the page again: alone if
        it had been begun, since it may be the cause then. A page that kills a second worker is refused.
        """
        async with aclosing(self._read(request, stream=False)) as answers:
            async for answer in answers:
                if isinstance(answer, PageResult):
                    return answer
        raise AssertionError("an answer ends with a result")

    def stream(self, request: InferRequest) -> AsyncGenerator[Delta | PageResult, None]:
        """Read one page and yield its answer as it is written: any number of `Delta`, then the `PageResult`.

        The pieces, joined, are the result's text; engines that don't write in pieces yield one. Raises what `infer`
        raises; after a worker's death the page is read again only while no piece has come. Use it in
        `contextlib.aclosing`: leaving early makes the worker stop writing.
        """
        return self._read(request, stream=True)

    async def _read(self, request: InferRequest, *, stream: bool) -> AsyncGenerator[Delta | PageResult, None]:
        kills = 0
        while True:
            kills = max(kills, await self._history.kills(self.model, request))
            if kills >= suspects.MAX_KILLS:
                raise EngineError(_refused_page(self.model, kills))
            if self._worker is None or (kills and not self._alone):
                await self.acquire(again=True, alone=kills > 0)
                continue  # a copy of this page may have killed a worker meanwhile
            answered = False
            try:
                async with aclosing(self._attempt(request, stream=stream)) as answers:
                    async for answer in answers:
                        answered = True
                        if isinstance(answer, PageResult):
                            await self._acquit(request, kills)
                        yield answer
            except WorkerLost as lost:
                if answered:
                    raise
                log.warning(
                    "worker died before a page was read; reading it again", extra={"model": self.model}
                )
                kills += lost.begun
                self._worker = None
            except EngineError:
                await self._acquit(request, kills)
                raise
            else:
                return

    async def _acquit(self, request: InferRequest, kills: int) -> None:
        """Suspect the page no more: a worker was done with it and lives."""
        if kills:
            await self._history.acquit(self.model, request)

    async def _attempt(
        self, request: InferRequest, *, stream: bool
    ) -> AsyncGenerator[Delta | PageResult, None]:
        assert self._worker is not None
        worker, batching = self._worker, self._batching()
        pieces: asyncio.Queue[Delta | None] = asyncio.Queue()
        job = worker.infer(
            request,
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
            if not job.done():
                worker.forget(job)

    async def _next(self, pieces: "asyncio.Queue[Delta | None]") -> Delta | None:
        try:
            async with asyncio.timeout(max(0.0, self.deadline - self._now())):
                # The worker goes on when the client has left: the lease ends with its work, not with the wait.
                return await pieces.get()
        except TimeoutError:
            message = f"the deadline passed while model {self.model} was reading the page"
            raise Refused(Refusal(Reason.DEADLINE, message)) from None

    async def acquire(self, *, again: bool = False, alone: bool = False) -> None:
        """Queue and wait for the model; called by `Manager.lease` and before each further try. A page that is read
        `alone` shares its worker with no other."""
        if again:
            self.release()
        self._ticket, self._worker, self._job, self._alone = 0, None, None, alone
        since = self.since if again else None
        ticket, answer = self._inbox.ticket()
        self._inbox.post(Acquire(ticket, self.model, self.deadline, since, alone=alone))
        try:
            self._worker = await answer
        except asyncio.CancelledError:
            self._inbox.post(Cancel(ticket))
            raise
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


def _refused_page(model: str, kills: int) -> Failure:
    minutes = suspects.KEEP_SECONDS / 60
    message = (
        f"{kills} workers of model {model} died while they read this page; it is refused for {minutes:g} minutes: "
        "send it in another format or resolution"
    )
    return Failure(kind=FailureKind.PAGE_KILLS_WORKER, message=message, param="file")
