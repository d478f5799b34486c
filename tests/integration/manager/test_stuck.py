"""Workers that don't end when they are killed, what kills say, and a wall clock that is set: with real processes."""

import asyncio
import logging
import os
import signal
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from ocr_inference.manager.manager import Manager, Refused
from ocr_inference.protocol.engine import InferRequest
from ocr_inference.workers.forkservers import Forkservers
from ocr_inference.workers.limits import Limits
from ocr_inference.workers.processes import Inherited, Process
from ocr_wire.states import State
from tests.support import engines
from tests.support.engines import (
    Faults,
    eventually,
    faulty,
    make_config,
    make_model,
    read,
    running,
    seen,
    until,
)
from tests.support.patience import PATIENCE


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    return Faults(tmp_path)


class Undying:
    """Worker process whose end doesn't come before the test says so, as in a system call that can't be interrupted."""

    def __init__(self, process: Process, may_end: asyncio.Event) -> None:
        self.pid = process.pid
        self.log = process.log
        self._process = process
        self._may_end = may_end

    async def wait(self) -> int:
        await self._may_end.wait()
        return await self._process.wait()

    def kill(self) -> None:
        self._process.kill()


class UndyingWorkers(Forkservers):
    def __init__(self) -> None:
        super().__init__(os.environ)
        self.may_end = asyncio.Event()

    async def start(self, engine: str, model: str, inherited: Inherited) -> Process:
        return Undying(await super().start(engine, model, inherited), self.may_end)


async def test_a_worker_whose_end_does_not_come_is_in_the_state_and_then_unhealthy() -> None:
    workers = UndyingWorkers()
    limits = Limits(survive=0.2, hopeless=0.6)
    async with running(make_config(), limits=limits, forkservers=workers) as manager:
        await read(manager)
        os.kill(engines.worker_pid(manager), signal.SIGKILL)
        model = await until(manager, lambda model: model.stuck_since is not None)
        assert model.stuck_since is not None
        assert abs(model.stuck_since.timestamp() - time.time()) < PATIENCE
        await eventually(lambda: manager.unhealthy_reason is not None)
        assert "alpha hasn't ended 1 seconds after it was killed" in str(manager.unhealthy_reason)
        assert manager.ages()["alpha"].stuck > 0
        workers.may_end.set()
        await until(manager, lambda model: model.stuck_since is None)
        assert manager.unhealthy_reason is None
        assert (await read(manager)).width == 40


async def streamed(manager: Manager, begun: asyncio.Event) -> None:
    with engines.handed() as page:
        async with manager.lease("alpha") as lease, aclosing(lease.stream(page)) as pieces:
            async for _ in pieces:
                begun.set()


async def test_an_answer_that_the_drain_cuts_says_so() -> None:
    config = make_config(make_model(step_seconds=0.05, repeat=100_000))
    async with running(config) as manager:
        begun = asyncio.Event()
        reading = asyncio.create_task(streamed(manager, begun))
        await begun.wait()
        await manager.close(grace_seconds=0.2)
        with pytest.raises(Refused, match="the server is shutting down"):
            await reading


async def test_a_load_that_hangs_is_ended_and_the_model_is_loaded_again(
    faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    limits = Limits(phases={**Limits().phases, "reading": 0.3})
    async with running(faulty(faults), limits=limits) as manager:
        faults.set(load="mutter")
        with pytest.raises(Refused, match="its load made no progress for 0 seconds while reading"):
            await read(manager)
        failed = await until(manager, lambda model: model.state is State.UNLOADED)
        assert failed.last_failure is not None
        faults.set()
        assert (await read(manager)).width == 40


class Wall:
    """Wall clock that the test sets."""

    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


async def test_a_wall_clock_that_is_set_moves_times_but_no_seconds() -> None:
    wall = Wall()
    async with running(make_config(), wall=wall) as manager:
        await read(manager)
        before = await until(manager, lambda model: model.idle_since is not None)
        idle = manager.idle_seconds("alpha")
        wall.offset = 86_400.0
        assert manager.idle_seconds("alpha") - idle < PATIENCE
        assert seen(manager) == before, "nothing was published yet"
        manager.apply(manager.effective)
        after = await until(manager, lambda model: model.idle_since != before.idle_since)
        assert before.idle_since is not None
        assert after.idle_since is not None
        assert after.since is not None
        assert before.since is not None
        assert abs((after.idle_since - before.idle_since).total_seconds() - 86_400) < PATIENCE
        assert after.since - before.since == after.idle_since - before.idle_since
        settled = manager.snapshot()
        manager.apply(manager.effective)
        with pytest.raises(Refused):
            await read(manager, "nobody", InferRequest(image=b""))
        assert manager.snapshot() is settled, "once"


async def test_a_weight_image_that_can_not_be_written_is_in_the_state_and_logged_once(
    faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(faulty(faults)) as manager:
        for fault, reason, lines in (
            ("full", "DiskFull", 1),
            ("full", "DiskFull", 1),
            ("fail", "ImageFailed", 2),
        ):
            faults.set(image=fault)
            assert (await read(manager)).width == 40, "the model serves"
            found = seen(manager).image_failure
            assert found is not None
            assert found.reason == reason
            assert "as the faults file says" in found.message
            assert caplog.text.count("weight image") == lines
            await manager.release()
        faults.set()
        await read(manager)
        assert seen(manager).image_failure is None
        assert seen(manager).last_failure is None
