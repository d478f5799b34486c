"""The server's side of one worker process: start it, call it, notice its end, stop it.

The process runs `worker_process` for one model. It gets two sockets, the model's host tier, the pages that it reads and
nothing else: no secrets in its environment (what it asks a hub with comes by a socket), no address to listen on. It
dies with the server. One task, `Worker.run`, reads its answers; a caller waits on a future.

A page crosses as a descriptor of its file. The server has a handle of its own on each page that has no answer yet: the
request's may be closed meanwhile, because its client has left.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

import msgspec

from ocr_inference.protocol import frames, packets
from ocr_inference.protocol.engine import (
    Answer,
    Begun,
    CallName,
    CancelCall,
    CleanUpCall,
    Delta,
    EngineError,
    Failure,
    FailureKind,
    Footprint,
    InferCall,
    LifeCycleCall,
    ModelSpec,
    Progress,
    Start,
)
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.protocol.memory_use import CleanedUp
from ocr_inference.protocol.page_file import Page
from ocr_inference.workers import endings, log_lines, processes
from ocr_inference.workers.limits import EXIT_SECONDS, LIMITS, Limits
from ocr_inference.workers.outbox import Outbox
from ocr_inference.workers.pending import Pending, Result, WorkerLost
from ocr_inference.workers.processes import Inherited, Process, Starter
from ocr_inference.workers.watchdog import Watchdog

log = logging.getLogger(__name__)

__all__ = ["Result", "Worker", "WorkerLost"]


class Worker:
    """Running worker. `run` must be running, too: it delivers the answers and reports the end."""

    def __init__(
        self,
        name: str,
        process: Process,
        calls: Outbox,
        answers: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        limits: Limits,
    ) -> None:
        self.name = name
        self.on_survival: Callable[[float], None] = lambda _: None
        """Called with the seconds since its end was due, when its process hasn't ended in a time of the limits."""
        self._process = process
        self._calls = calls
        self._answers, self._answers_writer = answers
        self._pending: dict[int, Pending] = {}
        self._ids = 0
        self._end: Failure | None = None
        self._ended = asyncio.Event()
        self.begun: tuple[Page, ...] = ()
        """Pages that it had begun and not answered when it died, until `close`."""
        self._blameless = False
        self._limits = limits
        self._fresh = True
        """Whether no life-cycle call has been answered yet."""
        self._progress: Progress | None = None
        """Last report of the call that runs."""
        self._killed_because: str | None = None
        self._ending: Watchdog | None = None
        """Runs while the process is to end."""
        self._cleaning: asyncio.Future[Result] | None = None

    @classmethod
    async def start(
        cls, spec: ModelSpec, host: HostTier, starter: Starter, limits: Limits = LIMITS
    ) -> "Worker":
        """Start the process; raises `OSError` where the system refuses. It imports its engine at its first call."""
        try:
            return await cls._start(spec, host, starter, limits)
        except processes.Unanswered as error:
            log.warning("starting the worker again: %s", error, extra={"model": spec.name})
            return await cls._start(spec, host, starter, limits)

    @classmethod
    async def _start(cls, spec: ModelSpec, host: HostTier, starter: Starter, limits: Limits) -> "Worker":
        first = packets.pack(Start(spec, dict(starter.secrets) if spec.repo else {}))
        with contextlib.ExitStack() as ours:
            with contextlib.ExitStack() as theirs:
                calls, their_calls = _owned(packets.pair(), ours, theirs)
                answers, their_answers = _owned(socket.socketpair(), ours, theirs)
                inherited = Inherited(their_calls, their_answers, host)
                process = await starter.start(spec.engine, spec.name, inherited)
            reader_and_writer = await asyncio.open_connection(sock=answers)
            ours.pop_all()
        worker = cls(spec.name, process, Outbox(calls), reader_and_writer, limits)
        worker._post(first)
        log.info("worker started", extra={"model": spec.name, "pid": process.pid})
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._end is not None

    async def run(self) -> Failure:
        """Deliver answers until the process has ended, and let calls without an answer fail then. Returns how it
        ended."""
        logged = asyncio.create_task(log_lines.pass_on(self._process.log, self._log_line))
        try:
            await self._deliver()
        except frames.BrokenFrame as error:
            log.warning("broken message from worker: %s", error, extra={"model": self.name})
            self.kill("it sent a broken message")
        finally:
            # A worker ends by itself when its socket is closed, but might be stuck.
            self._end_process()
            code = await self._process.wait()
            if self._ending is not None:
                self._ending.stop()
            await logged
            self._calls.close()
            self._answers_writer.close()
            self._end = endings.death(self.name, code, self._killed_because)
            self._fail_pending(self._end)
            self._ended.set()
        return self._end

    def _fail_pending(self, end: Failure) -> None:
        begun = []
        for pending in self._pending.values():
            pending.begun = pending.begun and not self._blameless
            if not pending.future.done():
                pending.future.set_exception(WorkerLost(end, begun=pending.begun))
            if pending.begun and pending.page is not None:
                begun.append(pending.page)
            else:
                pending.close()
        self._pending.clear()
        self.begun = tuple(begun)

    def close(self) -> None:
        """Close the files of the pages that it had begun when it died."""
        for page in self.begun:
            page.file.close()
        self.begun = ()

    async def call(
        self,
        name: CallName,
        on_progress: Callable[[Progress], None] | None = None,
        *,
        host_bytes: int = 0,
    ) -> Footprint:
        """Make a life-cycle call on a model that has so much in host memory; raises `EngineError`. If it makes no
        progress for the time of the limits, it fails and the worker is killed."""
        pending = Pending(on_progress=on_progress)
        future = self._send(LifeCycleCall(self._next_id(), name), pending)
        if not future.done():
            pending.watch(
                lambda: self._limits.seconds(name, self._progress, host_bytes, first=self._fresh),
                lambda seconds: self._hang(name, pending, seconds),
            )
        result = await asyncio.shield(future)
        return result if isinstance(result, Footprint) else Footprint()

    def infer(
        self,
        page: Page,
        *,
        max_pages: int,
        max_wait_seconds: float,
        limit_seconds: float,
        on_delta: Callable[[Delta], None] | None = None,
    ) -> "asyncio.Future[Result]":
        """Send a page; the future is done when the worker is done with the page, also if nothing waits for it any more.

        A page that isn't done after `limit_seconds` counts as stuck, and the worker is killed. `on_delta` gets the
        pieces of the answer as they are written, from engines that write in pieces.
        """
        call = InferCall(
            self._next_id(), page.options, max_pages, max_wait_seconds, stream=on_delta is not None
        )
        pending = Pending(page.share(), on_delta=on_delta)
        future = self._send(call, pending)
        if not future.done():
            pending.watch(lambda: limit_seconds, self._kill_stuck)
        return future

    def forget(self, future: "asyncio.Future[Result]") -> None:
        """Cancel a page: the worker leaves it out if it hasn't begun, and stops writing if it has."""
        for number, pending in self._pending.items():
            if pending.future is future and not pending.forgotten:
                pending.forgotten = True
                self._post(packets.pack(CancelCall(number)))

    async def clean_up(self, limit_seconds: float) -> CleanedUp | None:
        """Have it free what it doesn't need. Returns None where it is at work for longer than that: it cleans up
        afterwards. Raises `EngineError`."""
        if self._cleaning is None or self._cleaning.done():  # else one that it hasn't come to yet
            self._cleaning = self._send(CleanUpCall(self._next_id()), Pending())
        cleaning = self._cleaning
        await asyncio.wait([cleaning], timeout=limit_seconds)
        result = cleaning.result() if cleaning.done() else None
        return result if isinstance(result, CleanedUp) else None

    async def stop(self) -> None:
        """Let it exit, and kill it if it doesn't; returns when the process has ended."""
        try:
            await self.call("exit")
            async with asyncio.timeout(EXIT_SECONDS):
                await self._ended.wait()
        except (EngineError, TimeoutError):
            self.kill("it didn't exit")
            await self._ended.wait()

    def kill(self, why: str, *, blameless: bool = False) -> None:
        """Kill it; `why` is what its calls fail with. `blameless`: for a reason that its pages have no part in, so that
        they count as not begun."""
        self._blameless = self._blameless or blameless
        if self._killed_because is None and self._end is None:
            self._killed_because = why
            log.warning("killing the worker: %s", why, extra={"model": self.name, "pid": self.pid})
        self._end_process()

    def _end_process(self) -> None:
        self._process.kill()
        if self._ending is None and self._end is None:
            self._ending = Watchdog(self._limits.survive, self._survives)

    def _survives(self, seconds: float) -> None:
        """Report a process that doesn't end, though it was killed: it is in a system call that can't be interrupted."""
        fields = {"model": self.name, "pid": self.pid}
        log.error("the worker hasn't ended %.0f seconds after it was killed", seconds, extra=fields)
        self.on_survival(seconds)
        if self._ending is not None and seconds < self._limits.hopeless:
            self._ending.go_on(self._limits.hopeless)

    def _kill_stuck(self, seconds: float) -> None:
        self.kill(f"a page wasn't read after {seconds:.0f} seconds")

    def _hang(self, name: CallName, pending: Pending, seconds: float) -> None:
        during = f" while {self._progress.phase} {self._progress.file}".rstrip() if self._progress else ""
        why = f"its {name} made no progress for {seconds:.0f} seconds{during}"
        self.kill(why)
        pending.resolve(endings.hung(self.name, why))

    async def gone(self) -> None:
        await self._ended.wait()

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids

    def _send(
        self, message: LifeCycleCall | InferCall | CleanUpCall, pending: Pending
    ) -> "asyncio.Future[Result]":
        if self._end is not None:
            pending.close()
            pending.future.set_exception(WorkerLost(self._end))
            return pending.future
        self._pending[message.id] = pending
        try:
            data = packets.pack(message)
        except packets.TooLong as error:
            self._resolve(message.id, Failure(kind=FailureKind.UNSUPPORTED, message=str(error)))
            return pending.future
        file = pending.page.file if pending.page is not None else None
        self._calls.send(
            data, file, lambda error: self._resolve(message.id, endings.refused(error, self.name))
        )
        return pending.future

    def _post(self, data: bytes) -> None:
        """Send a packed message that has no answer."""
        self._calls.send(data, None, self._not_posted)

    def _not_posted(self, error: OSError) -> None:
        log.warning("a message to the worker is lost: %s", error, extra={"model": self.name})

    def _feed(self) -> None:
        """Let the life-cycle calls have their time again: something has moved."""
        for pending in self._pending.values():
            if pending.page is None:
                pending.feed()

    def _resolve(self, number: int, result: Result | Failure) -> None:
        if (pending := self._pending.pop(number, None)) is not None:
            pending.close()
            pending.resolve(result)

    async def _deliver(self) -> None:
        decoder = msgspec.msgpack.Decoder(Answer)
        while (answer := await frames.read_async(self._answers, decoder)) is not None:
            if (pending := self._pending.get(answer.id)) is None:
                continue
            match answer.result:
                case Begun():
                    pending.begun = True
                case Delta() as delta:
                    if pending.on_delta is not None and not pending.forgotten:
                        pending.on_delta(delta)
                case Progress() as progress:
                    if progress != self._progress:
                        self._progress = progress
                        self._feed()
                    if pending.on_progress is not None:
                        pending.on_progress(progress)
                case result:
                    if isinstance(result, Footprint):
                        self._progress, self._fresh = None, False
                        self._feed()
                    self._resolve(answer.id, result)

    def _log_line(self, text: str) -> None:
        log.info("worker: %s", text, extra={"model": self.name, "pid": self.pid})


def _owned(
    ends: tuple[socket.socket, socket.socket], ours: contextlib.ExitStack, theirs: contextlib.ExitStack
) -> tuple[socket.socket, socket.socket]:
    return ours.enter_context(ends[0]), theirs.enter_context(ends[1])
