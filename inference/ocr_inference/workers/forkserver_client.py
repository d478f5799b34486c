"""The server's side of nurseries: processes with an engine's libraries imported, from which workers are forked.

There is one per engine, started by the first worker that its engine needs and kept while a model of that engine
holds anything (`retain`). A worker that comes from it skips its imports, which is most of a wake from deep idle.
Where a nursery can't be had, workers are started from nothing, which only takes longer.

A worker is its nursery's child, so the kernel ends it with the nursery, and the nursery with the server: nothing
survives a server that was killed, not even a worker that is stuck in a driver.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Self

import msgspec

from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.workers import forks, processes
from ocr_inference.workers.processes import Direct, Process, Spawned

log = logging.getLogger(__name__)

READY_SECONDS = 300.0
"""Imports that take longer are stuck; from a slow network disk they take a minute."""
FORK_SECONDS = 30.0


class NoNursery(Exception):
    """This nursery can't be had, or is gone."""


class Unfit(NoNursery):
    """And trying again would end the same."""


class Child:
    """A worker that a nursery forked: not our child, so its nursery tells how it ended."""

    def __init__(self, pid: int, pidfd: int, stderr: asyncio.StreamReader) -> None:
        self.pid = pid
        self.log = stderr
        self._pidfd = pidfd
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    def kill(self) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def ended(self, code: int) -> None:
        """Its nursery has said so."""
        if not self._code.done():
            self._code.set_result(code)
            os.close(self._pidfd)
            self._pidfd = -1

    async def orphaned(self) -> None:
        """Its nursery is gone: the kernel kills it, which nobody reports."""
        if self._code.done():
            return
        self.kill()
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._pidfd, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(self._pidfd)
        # As the first process of a container we inherit orphans and have to collect them.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222 never blocks
        self.ended(-signal.SIGKILL)


class Nursery:
    """A running nursery. `run` must be running, too: it waits for its end."""

    def __init__(self, engine: str, process: Spawned, control: socket.socket) -> None:
        self.engine = engine
        self.children: dict[int, Child] = {}
        """Those that live, by their order's number."""
        self._process = process
        self._control = control
        self._numbers = itertools.count(1)
        self._reports = msgspec.msgpack.Decoder(forks.Report)
        self._ready: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._orders: dict[int, tuple[asyncio.Future[Child], asyncio.StreamReader]] = {}
        # Nobody may be waiting any more when it fails.
        self._ready.add_done_callback(lambda done: done.cancelled() or done.exception())
        asyncio.get_running_loop().add_reader(control, self._hear)

    @classmethod
    async def start(cls, engine: str, environ: Mapping[str, str]) -> Self:
        """Raises `OSError` where the system refuses. It isn't `ready` yet."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            with theirs:
                arguments = (engine, str(theirs.fileno()), str(os.getpid()))
                module = "ocr_inference.workers.forkserver"
                process = await processes.spawn(module, arguments, (theirs.fileno(),), environ)
        except BaseException:
            ours.close()
            raise
        return cls(engine, process, ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def closed(self) -> bool:
        """Whether it takes no orders any more."""
        return self._control.fileno() < 0

    async def ready(self) -> None:
        """Wait for its imports. Raises `NoNursery`."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                await asyncio.shield(self._ready)
        except TimeoutError:
            self.close()
            message = (
                f"the nursery of engine {self.engine} took longer than {READY_SECONDS:g} seconds to import"
            )
            raise NoNursery(message) from None

    async def fork(self, model: str, connection: socket.socket, host: HostTier) -> Child:
        """A worker for `model`. Raises `NoNursery`, and `OSError` where the system refuses a process."""
        if self.closed:
            raise NoNursery(f"the nursery of engine {self.engine} is gone")
        number = next(self._numbers)
        reading, writing = os.pipe()
        try:
            stderr = await _reader(reading)
            forked: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
            forked.add_done_callback(lambda done: done.cancelled() or done.exception())
            forks.send(self._control, forks.Fork(number, model), (connection.fileno(), host.fd, writing))
            self._orders[number] = (forked, stderr)
        finally:
            os.close(writing)
        try:
            async with asyncio.timeout(FORK_SECONDS):
                return await forked
        except TimeoutError:
            self.close()
            raise NoNursery(f"the nursery of engine {self.engine} does not answer") from None

    async def run(self) -> None:
        """Until it has ended, and its children with it."""
        try:
            await processes.lines(self._process.log, self._log_line)
        finally:
            self.close()
            code = await self._process.wait()
            gone = NoNursery(f"the nursery of engine {self.engine} ended with code {code}")
            if not self._ready.done():
                self._ready.set_exception(gone)
            for forked, _ in self._orders.values():
                if not forked.done():
                    forked.set_exception(gone)
            await asyncio.gather(*(child.orphaned() for child in self.children.values()))

    def close(self) -> None:
        """End it, and the workers that it still has."""
        self._hear()  # a child whose end was reported ended by itself, with a code
        self._deafen()
        self._process.kill()

    def _hear(self) -> None:
        """Take the reports that have come."""
        while self._control.fileno() >= 0:
            try:
                received = forks.receive(self._control, self._reports)
            except BlockingIOError:
                return
            except (OSError, forks.Broken) as error:
                log.warning("nursery of engine %s: %s", self.engine, error)
                received = None
            if received is None:  # it has ended, or is about to
                self._deafen()
                self._process.kill()
            else:
                self._take(*received)

    def _deafen(self) -> None:
        if self._control.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()

    def _take(self, report: forks.Report, descriptors: tuple[int, ...]) -> None:
        match report:
            case forks.Ready(seconds):
                log.info("nursery ready", extra={"engine": self.engine, "pid": self.pid, "seconds": seconds})
                self._ready.set_result(seconds)
            case forks.Unfit(reason):
                self._ready.set_exception(Unfit(f"the nursery of engine {self.engine} is unfit: {reason}"))
            case forks.NotForked(number, reason):
                forked, _ = self._orders.pop(number)
                if not forked.done():
                    forked.set_exception(OSError(reason))
            case forks.Forked(number, pid):
                forked, stderr = self._orders.pop(number)
                child = self.children[number] = Child(pid, descriptors[0], stderr)
                if forked.done():
                    child.kill()  # nobody waits for it any more
                else:
                    forked.set_result(child)
            case forks.Ended(number, code):
                self.children.pop(number).ended(code)

    def _log_line(self, text: str) -> None:
        log.info("nursery: %s", text, extra={"engine": self.engine, "pid": self.pid})


class Nurseries:
    """Starts workers from nurseries, and directly where there can't be one. An async context manager: leaving it
    ends the nurseries."""

    def __init__(self, environ: Mapping[str, str], *, enabled: bool = True) -> None:
        self._environ = environ
        self._enabled = enabled
        self._direct = Direct(environ)
        self._tasks = asyncio.TaskGroup()
        self._begun: dict[str, asyncio.Task[Nursery | Exception]] = {}
        self._unfit: set[str] = set()

    async def start(self, engine: str, model: str, connection: socket.socket, host: HostTier) -> Process:
        """A worker process; see `processes.Starter`."""
        if self._enabled and engine not in self._unfit:
            try:
                nursery = await self._nursery(engine)
                return await nursery.fork(model, connection, host)
            except (NoNursery, OSError) as error:
                if isinstance(error, Unfit):
                    self._unfit.add(engine)
                log.warning("starting a worker without a nursery: %s", error, extra={"engine": engine})
        return await self._direct.start(engine, model, connection, host)

    def retain(self, engines: Collection[str]) -> None:
        """End the nurseries of all other engines: none of their models holds anything."""
        for engine in [each for each in self._begun if each not in engines]:
            self._begun.pop(engine).add_done_callback(_close)

    def pids(self) -> Mapping[str, int]:
        """The process of each engine's nursery that takes orders."""
        begun = {engine: _outcome(task) for engine, task in self._begun.items()}
        return {engine: it.pid for engine, it in begun.items() if isinstance(it, Nursery) and not it.closed}

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.retain(())
        await self._tasks.__aexit__(kind, error, trace)

    async def _nursery(self, engine: str) -> Nursery:
        """The engine's nursery, ready; however many ask at once, it's started once."""
        task = self._begun.get(engine)
        outcome = _outcome(task) if task else None
        if task is None or isinstance(outcome, Exception) or (outcome is not None and outcome.closed):
            task = self._begun[engine] = self._tasks.create_task(self._begin(engine))
        outcome = await asyncio.shield(task)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _begin(self, engine: str) -> Nursery | Exception:
        try:
            nursery = await Nursery.start(engine, self._environ)
            self._tasks.create_task(nursery.run(), name=f"nursery of {engine}")
            await nursery.ready()
        except (NoNursery, OSError) as error:
            return error
        return nursery


def _outcome(task: "asyncio.Task[Nursery | Exception]") -> Nursery | Exception | None:
    """What starting a nursery came to; None while it goes on."""
    return task.result() if task.done() and not task.cancelled() else None


def _close(task: "asyncio.Task[Nursery | Exception]") -> None:
    if isinstance(outcome := _outcome(task), Nursery):
        outcome.close()


async def _reader(descriptor: int) -> asyncio.StreamReader:
    """What is written to the other end of a pipe; owns its descriptor."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    return reader
