"""Pages that are read under a lease, by real worker processes: deaths, deadlines, clients that go."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from ocr_inference.manager.manager import Manager, Refused
from ocr_inference.protocol.engine import EngineError, FailureKind, InferRequest
from ocr_inference.scheduling.state import Reason
from ocr_wire.states import State
from tests.support import engines
from tests.support.engines import (
    Faults,
    faulty,
    idle,
    live,
    make_config,
    make_model,
    read,
    running,
    seen,
    started,
    until,
    worker_pid,
)


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    return Faults(tmp_path)


async def test_a_worker_killed_while_reading_costs_a_second_try() -> None:
    async with running(make_config(make_model(infer_seconds=0.5))) as manager:
        reading = asyncio.create_task(read(manager))
        await until(manager, lambda model: model.in_flight == 1)
        os.kill(worker_pid(manager), signal.SIGKILL)
        assert (await reading).width == 40
        model = seen(manager)
        assert model.loads == 2
        assert model.last_failure is not None
        assert (model.last_failure.reason, model.last_failure.exit_code) == ("WorkerDied", -9)


async def test_a_page_that_kills_every_worker_is_an_error_and_the_next_one_is_read(faults: Faults) -> None:
    async with running(faulty(faults)) as manager:
        await read(manager)
        faults.set(infer="crash")
        with pytest.raises(EngineError, match="SIGKILL") as error:
            await read(manager)
        assert error.value.failure.kind is FailureKind.WORKER_DIED
        faults.set()
        assert (await read(manager)).width == 40


async def test_running_out_of_memory_while_reading_fails_the_page_only(faults: Faults) -> None:
    async with running(faulty(faults)) as manager:
        await read(manager)
        faults.set(infer="oom")
        with pytest.raises(EngineError) as error:
            await read(manager)
        assert error.value.failure.kind is FailureKind.OUT_OF_MEMORY
        faults.set()
        await read(manager)
        assert seen(manager).loads == 1


async def test_a_bad_page_harms_neither_its_neighbours_nor_the_model() -> None:
    async with running() as manager:
        bad = read(manager, request=InferRequest(image=engines.picture()[:50]))
        outcomes = await asyncio.gather(read(manager), bad, read(manager), return_exceptions=True)
        assert [type(outcome).__name__ for outcome in outcomes] == ["PageResult", "EngineError", "PageResult"]
        assert seen(manager).loads == 1


async def test_a_client_that_goes_leaves_the_queue() -> None:
    async with running(make_config(make_model(load_seconds=0.5))) as manager:
        gone = asyncio.create_task(read(manager))
        await until(manager, lambda model: model.waiting == 1)
        gone.cancel()
        await until(manager, lambda model: model.waiting == 0)
        await until(manager, lambda model: model.state is State.READY)
        assert seen(manager).in_flight == 0


async def test_a_lease_ends_with_the_work_not_with_the_client() -> None:
    async with running(make_config(make_model(infer_seconds=0.5))) as manager:
        gone = asyncio.create_task(read(manager))
        await until(manager, lambda model: model.in_flight == 1)
        gone.cancel()
        await asyncio.wait([gone])
        assert seen(manager).in_flight == 1
        await until(manager, lambda model: model.in_flight == 0)


async def test_a_stuck_page_ends_its_worker_though_all_clients_have_left(faults: Faults) -> None:
    config = faulty(faults)
    async with running(config, stuck_seconds=0.1) as manager:
        await read(manager)
        stuck = worker_pid(manager)
        faults.set(infer="hang")
        clients = [
            asyncio.create_task(read(manager, deadline=manager.now() + 3.0))
            for _ in range(manager.effective.batching.max_pages)
        ]
        await until(manager, lambda model: model.in_flight == len(clients))
        for client in clients:
            client.cancel()
        await asyncio.wait(clients)
        released = asyncio.create_task(manager.release("alpha"))
        later = asyncio.create_task(read(manager))
        await until(manager, lambda model: model.in_flight == 0)
        faults.set()
        assert not engines.alive(stuck)
        await released
        assert (await later).width == 40
        manager.apply(live(config, idle=idle(release=0)))
        await until(manager, lambda model: model.state is State.UNLOADED)


def kill_worker(manager: Manager) -> None:
    os.kill(worker_pid(manager), signal.SIGKILL)


async def test_deadlines_hold_while_waiting_and_while_reading(faults: Faults) -> None:
    async with running(faulty(faults)) as manager:
        faults.set(load="hang")
        with pytest.raises(Refused, match="waiting for model alpha") as error:
            async with manager.lease("alpha", manager.now() + 0.1):
                pass
        assert error.value.refusal.reason is Reason.DEADLINE
        await started(manager)
        kill_worker(manager)
        await until(manager, lambda model: model.state is State.UNLOADED)
        faults.set()
        await read(manager)
        faults.set(infer="hang")
        with pytest.raises(Refused, match="reading the page"):
            async with manager.lease("alpha", manager.now() + 0.1) as lease:
                await lease.infer(engines.page())
        kill_worker(manager)
        await until(manager, lambda model: model.in_flight == 0)
