"""The server's side of one worker process: start it, call it, notice its end, stop it.

The process runs `worker_process` for one model. It gets a socket, the model's host tier and nothing else: no secrets in
its environment, no address to listen on. It dies with the server. One task, `Worker.run`, reads its answers; a caller
waits on a future.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from ocr_inference.protocol import frames
from ocr_inference.protocol.engine import (
    Answer,
    Begun,
    CallName,
    CancelCall,
    Delta,
    EngineError,
    Failure,
    FailureKind,
    Footprint,
    InferCall,
    InferRequest,
    LifeCycleCall,
    ModelSpec,
    PageResult,
    Progress,
    Start,
)
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.workers import processes
from ocr_inference.workers.processes import Process, Starter

log = logging.getLogger(__name__)

LIMIT_SECONDS: Mapping[CallName, float] = {
    "load": 3600,
    "stand_by": 300,
    "restore": 300,
    "offload": 120,
    "unload": 60,
    "exit": 10,
}
"""Time after which a call counts as hung and the worker is killed. A first load may have gigabytes to download."""

Result = PageResult | Footprint | None


class WorkerLost(EngineError):
    """Call that failed because its worker died."""

    def __init__(self, failure: Failure, *, begun: bool = False) -> None:
        """Prepare; `begun`: whether the worker had begun the page, which so may be the cause."""
        super().__init__(failure)
        self.begun = begun


@dataclass
class _Pending:
    """Call without an answer yet."""

    future: "asyncio.Future[Result]"
    request: InferRequest | None = None
    """The page, where the call is one."""
    begun: bool = False
    on_delta: Callable[[Delta], None] | None = None
    on_progress: Callable[[Progress], None] | None = None
    forgotten: bool = False


class Worker:
    """Running worker. `run` must be running, too: it delivers the answers and reports the end."""

    def __init__(
        self, name: str, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.name = name
        self._process = process
        self._reader = reader
        self._writer = writer
        self._pending: dict[int, _Pending] = {}
        self._ids = 0
        self._end: Failure | None = None
        self._ended = asyncio.Event()
        self.begun: tuple[InferRequest, ...] = ()
        """Pages that it had begun and not answered when it died."""
        self._blameless = False

    @classmethod
    async def start(cls, spec: ModelSpec, host: HostTier, starter: Starter) -> "Worker":
        """Start the process; raises `OSError` where the system refuses. It imports its engine at its first call."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await starter.start(spec.engine, spec.name, theirs, host)
        except BaseException:
            ours.close()
            raise
        return await cls.over(spec, process, ours)

    @classmethod
    async def over(cls, spec: ModelSpec, process: Process, connection: socket.socket) -> "Worker":
        """Return a worker for a process that runs already. It takes `connection` over."""
        try:
            reader, writer = await asyncio.open_connection(sock=connection)
        except BaseException:
            connection.close()
            raise
        writer.write(frames.pack(Start(spec)))
        log.info("worker started", extra={"model": spec.name, "pid": process.pid})
        return cls(spec.name, process, reader, writer)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._end is not None

    async def run(self) -> Failure:
        """Deliver answers until the process has ended, and let calls without an answer fail then. Returns how it
        ended."""
        logged = asyncio.create_task(processes.lines(self._process.log, self._log_line))
        try:
            await self._deliver()
        except frames.BrokenFrame as error:
            log.warning("broken message from worker: %s", error, extra={"model": self.name})
        finally:
            # A worker ends by itself when its socket is closed, but might be stuck.
            self.kill()
            code = await self._process.wait()
            await logged
            self._writer.close()
            self._end = _death(self.name, code)
            for pending in self._pending.values():
                pending.begun = pending.begun and not self._blameless
                if not pending.future.done():
                    pending.future.set_exception(WorkerLost(self._end, begun=pending.begun))
            self.begun = tuple(each.request for each in self._pending.values() if each.begun and each.request)
            self._pending.clear()
            self._ended.set()
        return self._end

    async def call(self, name: CallName, on_progress: Callable[[Progress], None] | None = None) -> Footprint:
        """Make a life-cycle call; raises `EngineError`. If it hangs, the worker is killed."""
        future = self._send(LifeCycleCall(self._next_id(), name), on_progress=on_progress)
        try:
            async with asyncio.timeout(LIMIT_SECONDS[name]):
                result = await asyncio.shield(future)
        except TimeoutError:
            self.kill()
            message = f"{name} of model {self.name} took longer than {LIMIT_SECONDS[name]} seconds"
            raise EngineError(Failure(kind=FailureKind.TIMED_OUT, message=message)) from None
        return result if isinstance(result, Footprint) else Footprint()

    def infer(
        self,
        request: InferRequest,
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
        call = InferCall(self._next_id(), request, max_pages, max_wait_seconds, stream=on_delta is not None)
        future = self._send(call, on_delta=on_delta)
        if not future.done():
            timer = asyncio.get_running_loop().call_later(limit_seconds, self._kill_stuck, limit_seconds)
            future.add_done_callback(lambda _: timer.cancel())
        return future

    def forget(self, future: "asyncio.Future[Result]") -> None:
        """Cancel a page: the worker leaves it out if it hasn't begun, and stops writing if it has."""
        for number, pending in self._pending.items():
            if pending.future is future and not pending.forgotten and not self._writer.is_closing():
                pending.forgotten = True
                self._writer.write(frames.pack(CancelCall(number)))

    async def stop(self) -> None:
        """Let it exit, and kill it if it doesn't; returns when the process has ended."""
        try:
            await self.call("exit")
        except EngineError:
            self.kill()
        try:
            async with asyncio.timeout(LIMIT_SECONDS["exit"]):
                await self._ended.wait()
        except TimeoutError:
            self.kill()
            await self._ended.wait()

    def kill(self) -> None:
        self._process.kill()

    def kill_blameless(self) -> None:
        """Kill it for a reason that its pages have no part in: they count as not begun."""
        self._blameless = True
        self.kill()

    def _kill_stuck(self, seconds: float) -> None:
        fields = {"model": self.name, "pid": self.pid}
        log.error("a page isn't read after %.0f seconds: killing the worker", seconds, extra=fields)
        self.kill()

    async def gone(self) -> None:
        await self._ended.wait()

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids

    def _send(
        self,
        message: LifeCycleCall | InferCall,
        on_delta: Callable[[Delta], None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> "asyncio.Future[Result]":
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        # A future may fail when nothing waits for it any more; that is no error then.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._end is not None:
            future.set_exception(WorkerLost(self._end))
            return future
        try:
            self._writer.write(frames.pack(message))
        except frames.BrokenFrame as error:
            future.set_exception(EngineError(Failure(kind=FailureKind.IMAGE_TOO_LARGE, message=str(error))))
            return future
        request = message.request if isinstance(message, InferCall) else None
        self._pending[message.id] = _Pending(future, request, on_delta=on_delta, on_progress=on_progress)
        return future

    async def _deliver(self) -> None:
        decoder = msgspec.msgpack.Decoder(Answer)
        while (answer := await frames.read_async(self._reader, decoder)) is not None:
            if (pending := self._pending.get(answer.id)) is None:
                continue
            match answer.result:
                case Begun():
                    pending.begun = True
                case Delta() as delta:
                    if pending.on_delta is not None and not pending.forgotten:
                        pending.on_delta(delta)
                case Progress() as progress:
                    if pending.on_progress is not None:
                        pending.on_progress(progress)
                case result:
                    del self._pending[answer.id]
                    _resolve(pending.future, result)

    def _log_line(self, text: str) -> None:
        log.info("worker: %s", text, extra={"model": self.name, "pid": self.pid})


def _resolve(future: "asyncio.Future[Result]", result: Result | Failure) -> None:
    if future.done():
        return
    if isinstance(result, Failure):
        future.set_exception(EngineError(result))
    else:
        future.set_result(result)


def _death(name: str, code: int) -> Failure:
    if code >= 0:
        how = f"exited with code {code}"
    else:
        how = f"was killed by {_signal_name(-code)}"
        if -code == signal.SIGKILL:
            how += " (the system does that when memory runs out)"
    message = f"the worker of model {name} {how}"
    return Failure(kind=FailureKind.WORKER_DIED, message=message, exit_code=code)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
