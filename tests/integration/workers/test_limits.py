"""Calls that make no progress, and workers that don't end when they are killed: real processes that hang, and workers
that the test plays itself."""

import asyncio
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from ocr_inference.protocol import frames, packets
from ocr_inference.protocol.engine import (
    Answer,
    Call,
    EngineError,
    FailureKind,
    Footprint,
    LifeCycleCall,
    ModelSpec,
    Progress,
)
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.workers.limits import BYTES_PER_SECOND, EXIT_SECONDS, LIMITS, Limits
from ocr_inference.workers.processes import Direct, Inherited
from ocr_inference.workers.worker import Result, Worker, WorkerLost
from tests.support import engines
from tests.support.patience import PATIENCE

SHORT = Limits(
    start=2 * PATIENCE,
    phases=dict.fromkeys(LIMITS.phases, 0.5),
    move=0.5,
    survive=0.2,
    hopeless=0.5,
)


class PlayedProcess:
    """Process that the test plays: it ends when the test says so, whatever is sent to it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.log = asyncio.StreamReader()
        self.kills = 0
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    def kill(self) -> None:
        self.kills += 1

    def end(self, code: int) -> None:
        if not self._code.done():
            self.log.feed_eof()
            self._code.set_result(code)


class Played:
    """The other side of a worker, and what starts it."""

    secrets: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.process = PlayedProcess()
        self._decoder = msgspec.msgpack.Decoder(Call)

    async def start(self, engine: str, model: str, inherited: Inherited) -> PlayedProcess:
        self._calls, self._answers = inherited.calls.dup(), inherited.answers.dup()
        return self.process

    async def next_call(self) -> LifeCycleCall:
        while True:
            received = await asyncio.to_thread(packets.receive, self._calls, self._decoder)
            assert received is not None
            if isinstance(received[0], LifeCycleCall):
                return received[0]

    def answer(self, number: int, result: Footprint | Progress) -> None:
        self._answers.sendall(frames.pack(Answer(number, result)))

    def disconnect(self) -> None:
        self._answers.close()

    def end(self) -> None:
        self.process.end(-signal.SIGKILL)
        self._answers.close()
        self._calls.close()


@asynccontextmanager
async def played(limits: Limits = SHORT) -> AsyncIterator[tuple[Worker, Played]]:
    played, host = Played(), HostTier.create("test")
    worker = await Worker.start(ModelSpec(name="m", engine="fake"), host, played, limits)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run())
        try:
            yield worker, played
        finally:
            played.end()
    host.close()


@asynccontextmanager
async def started(limits: Limits, faults: Path) -> AsyncIterator[Worker]:
    host = HostTier.create("test")
    spec = ModelSpec(name="m", engine="fake", options={"faults_file": str(faults)})
    worker = await Worker.start(spec, host, Direct(os.environ), limits)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.kill("the test is over")
    host.close()


def infer(worker: Worker) -> "asyncio.Future[Result]":
    with engines.handed() as page:
        return worker.infer(page, max_pages=1, max_wait_seconds=0, limit_seconds=PATIENCE)


async def test_a_load_that_gets_on_has_no_limit() -> None:
    """Three times the time that it could have stood still."""
    loop = asyncio.get_running_loop()
    async with played() as (worker, it):
        heard: asyncio.Queue[Progress] = asyncio.Queue()
        loading = asyncio.create_task(worker.call("load", heard.put_nowait))
        call, began, done = await it.next_call(), loop.time(), 0
        while loop.time() < began + 3 * SHORT.phases["downloading"]:
            done += 1
            it.answer(call.id, Progress(phase="downloading", done_bytes=done))
            assert (await heard.get()).done_bytes == done
        it.answer(call.id, Footprint(host_bytes=done))
        assert (await loading).host_bytes == done
        assert it.process.kills == 0


@pytest.mark.parametrize("fault", ["mutter", "hang"])
async def test_a_call_that_stands_still_ends_its_worker(tmp_path: Path, fault: str) -> None:
    """Also when a thread goes on to report the same again."""
    faults = tmp_path / "faults.json"
    limits = Limits(start=PATIENCE if fault == "mutter" else 1.0, phases=SHORT.phases, move=SHORT.move)
    faults.write_text(json.dumps({"load": fault}))
    async with started(limits, faults) as worker:
        with pytest.raises(EngineError, match="killed by the server: its load made no progress for") as error:
            await worker.call("load")
        assert error.value.failure.kind is FailureKind.TIMED_OUT
        assert ("while reading" in error.value.failure.message) is (fault == "mutter")
        async with asyncio.timeout(PATIENCE):
            await worker.gone()
        with pytest.raises(WorkerLost, match="killed by the server: its load made no progress"):
            await worker.call("restore")


async def test_an_offload_that_hangs_ends_its_worker(tmp_path: Path) -> None:
    faults = tmp_path / "faults.json"
    async with started(SHORT, faults) as worker:
        await worker.call("load")
        faults.write_text(json.dumps({"offload": "hang"}))
        with pytest.raises(EngineError, match="its offload made no progress"):
            await worker.call("offload", host_bytes=1000)


async def test_a_call_behind_one_that_gets_on_has_time() -> None:
    """A restore that is sent while the standby still prepares."""
    loop = asyncio.get_running_loop()
    async with played(Limits(start=0.5, phases=SHORT.phases, move=0.1)) as (worker, it):
        heard: asyncio.Queue[Progress] = asyncio.Queue()
        preparing = asyncio.create_task(worker.call("stand_by", heard.put_nowait))
        call = await it.next_call()
        restoring = asyncio.create_task(worker.call("restore"))
        restore, began, done = await it.next_call(), loop.time(), 0
        while loop.time() < began + 2.0:
            done += 1
            it.answer(call.id, Progress(phase="checking", done_bytes=done))
            await heard.get()
        it.answer(call.id, Footprint())
        it.answer(restore.id, Footprint(device_bytes=7))
        await preparing
        assert (await restoring).device_bytes == 7


async def test_a_worker_that_survives_its_end_is_reported_twice(caplog: pytest.LogCaptureFixture) -> None:
    async with played() as (worker, it):
        reports: asyncio.Queue[float] = asyncio.Queue()
        worker.on_survival = reports.put_nowait
        worker.kill("a test says so")
        assert [await reports.get(), await reports.get()] == [SHORT.survive, SHORT.hopeless]
        assert it.process.kills == 1
        assert "the worker hasn't ended" in caplog.text
        assert not worker.ended
        it.end()
        await worker.gone()
        assert reports.empty()


async def test_one_that_closes_its_connection_and_does_not_end_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with played() as (worker, it):
        reports: asyncio.Queue[float] = asyncio.Queue()
        worker.on_survival = reports.put_nowait
        it.disconnect()
        assert await reports.get() == SHORT.survive
        assert it.process.kills == 1


async def test_a_kill_says_its_reason_and_a_death_of_its_own_does_not(tmp_path: Path) -> None:
    async with started(LIMITS, tmp_path / "faults.json") as worker:
        await worker.call("load")
        worker.kill("the server shuts down")
        worker.kill("another reason")
        with pytest.raises(WorkerLost, match=r"m was killed by the server: the server shuts down$"):
            await infer(worker)
    async with started(LIMITS, tmp_path / "faults.json") as worker:
        await worker.call("load")
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerLost, match=r"SIGKILL \(the system does that when memory runs out"):
            await infer(worker)


def test_limits_leave_room_for_what_is_known_to_take_long() -> None:
    def limit(call: str, last: Progress | None = None, nbytes: int = 0, *, first: bool = False) -> float:
        return LIMITS.seconds(call, last, nbytes, first=first)  # type: ignore[arg-type]

    assert limit("load") == limit("load", first=True) == 300
    assert limit("load", Progress(phase="downloading")) == 900
    assert limit("load", Progress(phase="converting")) == 1800
    assert limit("restore", nbytes=16 << 30) == 60 + (16 << 30) / BYTES_PER_SECOND == 188
    assert limit("restore", nbytes=16 << 30, first=True) == 488
    assert limit("offload") == limit("unload") == 60
    assert limit("exit", nbytes=1 << 40) == EXIT_SECONDS
