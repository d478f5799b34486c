"""The server's side of forkservers: processes with an engine's libraries imported, from which workers are forked.

There is one per engine, started before it is needed (`prepare`) or by the first worker of its engine, and kept for as
long as a worker of that engine runs or is expected (`retain`). A worker that is forked from it skips its imports, which
take most of a wake from deep idle. Where a forkserver can't be used, workers are started from nothing, which only takes
longer.

A worker is its forkserver's child, so the kernel ends it with the forkserver, and the forkserver with the server: no
process survives a server that was killed, not even a worker that is stuck in a driver. Therefore a forkserver that
stands still (stopped, or out of memory) isn't killed while it has workers: they read on, new ones are started from
nothing, and it ends with its last worker, or is used again as soon as it answers.
"""

import asyncio
import itertools
import logging
import os
import socket
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Self

import msgspec

from ocr_inference.protocol import packets
from ocr_inference.workers import fork_messages, log_lines, processes
from ocr_inference.workers.forked import Child
from ocr_inference.workers.processes import Direct, Inherited, Process, Spawned, Unanswered

log = logging.getLogger(__name__)

READY_SECONDS = 300.0
"""Time after which imports count as stuck; from a slow network disk they take a minute."""
FORK_SECONDS = 30.0
"""Time after which a forkserver that doesn't answer counts as standing still."""


class NoForkserver(Exception):
    """Forkserver that can't be used, or has ended."""


class Unfit(NoForkserver):
    """Forkserver that can't be used, and a new one couldn't either."""


class Forkserver:
    """Running forkserver. `run` must be running, too: it waits for its end."""

    def __init__(self, engine: str, process: Spawned, control: socket.socket, fork_seconds: float) -> None:
        self.engine = engine
        self.children: dict[int, Child] = {}
        """Children that it hasn't collected, by their order's number."""
        self.stalled = False
        """Whether it left an order unanswered, and nothing has come from it since."""
        self._fork_seconds = fork_seconds
        self._process = process
        self._control = control
        self._numbers = itertools.count(1)
        self._reports = msgspec.msgpack.Decoder(fork_messages.Report)
        self._ready: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._orders: dict[int, tuple[asyncio.Future[Child], asyncio.StreamReader]] = {}
        # It may fail when nothing waits for it any more.
        self._ready.add_done_callback(lambda done: done.cancelled() or done.exception())
        asyncio.get_running_loop().add_reader(control, self._read_reports)

    @classmethod
    async def start(
        cls, engine: str, environ: Mapping[str, str], fork_seconds: float, *, swaps: bool
    ) -> Self:
        """Start the process; raises `OSError` where the system refuses. It isn't `ready` yet, and counts as stalled
        where an order takes longer than `fork_seconds`. One that `swaps` has its memory in a file while it waits."""
        ours, theirs = packets.pair()
        ours.setblocking(False)
        try:
            with theirs:
                arguments = (engine, str(theirs.fileno()), str(os.getpid()), fork_messages.SWAPS)[
                    : 4 if swaps else 3
                ]
                module = "ocr_inference.workers.forkserver_process"
                process = await processes.spawn(module, arguments, (theirs.fileno(),), environ)
        except BaseException:
            ours.close()
            raise
        return cls(engine, process, ours, fork_seconds)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def closed(self) -> bool:
        """Whether it accepts no orders any more."""
        return self._control.fileno() < 0

    async def ready(self) -> None:
        """Wait for its imports. Raises `NoForkserver`."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                await asyncio.shield(self._ready)
        except TimeoutError:
            self.close()
            message = (
                f"the forkserver of engine {self.engine} took longer than {READY_SECONDS:g} seconds to import"
            )
            raise NoForkserver(message) from None

    async def fork(self, model: str, inherited: Inherited) -> Child:
        """Fork a worker for `model`. Raises `NoForkserver`, `Unanswered`, and `OSError` where the system refuses a
        process."""
        if self.closed:
            raise NoForkserver(f"the forkserver of engine {self.engine} is gone")
        if self.stalled:
            raise NoForkserver(f"the forkserver of engine {self.engine} does not answer")
        number = next(self._numbers)
        reading, writing = os.pipe()
        try:
            stderr = await _reader(reading)
            forked: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
            forked.add_done_callback(lambda done: done.cancelled() or done.exception())
            order = packets.pack(fork_messages.Fork(number, model))
            packets.send(self._control, order, (*inherited.descriptors, writing))
            self._orders[number] = (forked, stderr)
        finally:
            os.close(writing)
        try:
            async with asyncio.timeout(self._fork_seconds):
                return await forked
        except TimeoutError:
            self.stalled = True
            self._end_if_useless()
            raise Unanswered(f"the forkserver of engine {self.engine} does not answer") from None

    async def run(self) -> None:
        """Run until it has ended, and its children with it."""
        try:
            await log_lines.pass_on(self._process.log, self._log_line)
        finally:
            self.close()
            code = await self._process.wait()
            gone = NoForkserver(f"the forkserver of engine {self.engine} ended with code {code}")
            if not self._ready.done():
                self._ready.set_exception(gone)
            for forked, _ in self._orders.values():
                if not forked.done():
                    forked.set_exception(gone)
            await asyncio.gather(*(child.orphaned() for child in self.children.values()))

    def _end_if_useless(self) -> None:
        if self.stalled and not any(child.alive for child in self.children.values()):
            self.close()

    def close(self) -> None:
        """End it, and the workers that it still has."""
        self._read_reports()  # a child whose end was reported ended by itself, with a code
        self._disconnect()
        self._process.kill()

    def _read_reports(self) -> None:
        """Read the reports that have come."""
        while self._control.fileno() >= 0:
            try:
                received = packets.receive(self._control, self._reports)
            except BlockingIOError:
                return
            except (OSError, packets.Broken) as error:
                log.warning("forkserver of engine %s: %s", self.engine, error)
                received = None
            if received is None:  # it has ended, or is about to
                self._disconnect()
                self._process.kill()
            else:
                self._take(*received)

    def _disconnect(self) -> None:
        if self._control.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()

    def _take(self, report: fork_messages.Report, descriptors: tuple[int, ...]) -> None:
        self.stalled = False
        match report:
            case fork_messages.Ready(seconds):
                log.info(
                    "forkserver ready", extra={"engine": self.engine, "pid": self.pid, "seconds": seconds}
                )
                self._ready.set_result(seconds)
            case fork_messages.Unfit(reason):
                self._ready.set_exception(Unfit(f"the forkserver of engine {self.engine} is unfit: {reason}"))
            case fork_messages.NotForked(number, reason):
                forked, _ = self._orders.pop(number)
                if not forked.done():
                    forked.set_exception(OSError(reason))
            case fork_messages.Forked(number) if not descriptors:
                forked, _ = self._orders.pop(number)
                if not forked.done():  # the worker ends by itself, as its sockets are closed on this side
                    forked.set_exception(Unanswered("the server has too many files open to know its worker"))
            case fork_messages.Forked(number, pid):
                forked, stderr = self._orders.pop(number)
                child = self.children[number] = Child(pid, descriptors[0], stderr)
                child.when_ended(self._end_if_useless)
                if forked.done():
                    child.kill()  # it isn't waited for any more
                else:
                    forked.set_result(child)
            case fork_messages.Ended(number, code):
                if (ended := self.children.pop(number, None)) is not None:
                    ended.collected(code)

    def _log_line(self, text: str) -> None:
        log.info("forkserver: %s", text, extra={"engine": self.engine, "pid": self.pid})


class Forkservers:
    """Starts workers from forkservers, and directly where a forkserver can't be used. An async context manager: leaving
    it ends the forkservers."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        enabled: bool = True,
        swaps: bool = True,
        fork_seconds: float = FORK_SECONDS,
    ) -> None:
        """Prepare; forkservers that don't `swaps` keep all of their memory (`swap_file`)."""
        self._environ = environ
        self._enabled = enabled
        self._swaps = swaps
        self._fork_seconds = fork_seconds
        self.direct = Direct(environ)
        """Starts workers without a forkserver."""
        self.secrets = self.direct.secrets
        self._tasks = asyncio.TaskGroup()
        self._begun: dict[str, _Begun] = {}
        self._unfit: set[str] = set()

    async def start(self, engine: str, model: str, inherited: Inherited) -> Process:
        """Start a worker process; see `processes.Starter`."""
        if self._enabled and engine not in self._unfit:
            try:
                forkserver = await self._forkserver(engine)
                return await forkserver.fork(model, inherited)
            except Unanswered:
                raise
            except (NoForkserver, OSError) as error:
                if isinstance(error, Unfit):
                    self._unfit.add(engine)
                log.warning("starting a worker without a forkserver: %s", error, extra={"engine": engine})
        return await self.direct.start(engine, model, inherited)

    def prepare(self, engine: str) -> None:
        """Begin the engine's imports in the background, unless that was done: after a failure the next worker tries
        again."""
        if self._enabled and engine not in self._begun and engine not in self._unfit:
            self._begin(engine)

    def retain(self, engines: Collection[str]) -> None:
        """End the forkservers of all other engines, also those that are at their imports."""
        for engine in [each for each in self._begun if each not in engines]:
            self._begun.pop(engine).drop()

    def pids(self) -> Mapping[str, int]:
        """Return the process ids of forkservers that accept orders, by engine."""
        begun = {engine: each.outcome for engine, each in self._begun.items()}
        return {
            engine: it.pid for engine, it in begun.items() if isinstance(it, Forkserver) and not it.closed
        }

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.retain(())
        await self._tasks.__aexit__(kind, error, trace)

    async def _forkserver(self, engine: str) -> Forkserver:
        """Return the engine's forkserver when it is ready; concurrent callers share one start."""
        begun = self._begun.get(engine)
        outcome = begun.outcome if begun else None
        if begun is None or isinstance(outcome, Exception) or (outcome is not None and outcome.closed):
            begun = self._begin(engine)
        outcome = await asyncio.shield(begun.task)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _begin(self, engine: str) -> "_Begun":
        begun = self._begun[engine] = _Begun()
        begun.task = self._tasks.create_task(self._import(engine, begun), name=f"imports of {engine}")
        return begun

    async def _import(self, engine: str, begun: "_Begun") -> Forkserver | Exception:
        try:
            forkserver = await Forkserver.start(engine, self._environ, self._fork_seconds, swaps=self._swaps)
            self._tasks.create_task(forkserver.run(), name=f"forkserver of {engine}")
            begun.started(forkserver)
            await forkserver.ready()
        except (NoForkserver, OSError) as error:
            return error
        return forkserver


class _Begun:
    """Forkserver that was begun: it may still be starting, or at its imports."""

    task: "asyncio.Task[Forkserver | Exception]"
    """Done when it is ready, or can't be had."""

    def __init__(self) -> None:
        self._forkserver: Forkserver | None = None
        self._dropped = False

    @property
    def outcome(self) -> Forkserver | Exception | None:
        """Forkserver that is ready, or why there is none; None before either."""
        return self.task.result() if self.task.done() and not self.task.cancelled() else None

    def started(self, forkserver: Forkserver) -> None:
        self._forkserver = forkserver
        if self._dropped:
            forkserver.close()

    def drop(self) -> None:
        """End it, now or as soon as its process is there."""
        self._dropped = True
        if self._forkserver is not None:
            self._forkserver.close()


async def _reader(descriptor: int) -> asyncio.StreamReader:
    """Return a reader of a pipe; it owns the descriptor."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    return reader
