"""Pages that are read under a lease, by real worker processes: deaths, deadlines, clients that go."""

import asyncio
import logging
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
    eventually,
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
        with pytest.raises(EngineError, match="2 workers of model alpha died") as error:
            await read(manager)
        assert error.value.failure.kind is FailureKind.PAGE_KILLS_WORKER
        faults.set()
        assert (await read(manager, request=engines.page("black"))).width == 40


COLORS = ("red", "green", "blue", "yellow", "cyan", "magenta", "gray")


async def key_of(manager: Manager, page: InferRequest) -> str:
    """The page's name in the faults file."""
    return f"page {(await read(manager, request=page)).text.split()[4]}"


@pytest.mark.parametrize("step_seconds", [-1.0, 0.0], ids=["batches", "steps"])
@pytest.mark.parametrize("fault", ["crash", "break"])
async def test_a_page_that_kills_workers_harms_no_other_page(
    faults: Faults, fault: str, step_seconds: float
) -> None:
    config = make_config(make_model(faults_file=str(faults.file), max_batch=8, step_seconds=step_seconds))
    killer, innocents = engines.page("black"), [engines.page(color) for color in COLORS]
    async with running(config) as manager:
        key = await key_of(manager, killer)
        # The first page is held, so that the others, the killer among them, come to the engine together.
        faults.set(**{key: fault}, infer="hold")
        first = asyncio.create_task(read(manager))
        await until(manager, lambda model: model.in_flight == 1)
        reading = [asyncio.create_task(read(manager, request=page)) for page in [*innocents[:3], killer]]
        reading += [asyncio.create_task(read(manager, request=page)) for page in innocents[3:]]
        await until(manager, lambda model: model.in_flight == 8)
        faults.set(**{key: fault})
        guilty = reading.pop(3)
        with pytest.raises(EngineError) as error:
            await guilty
        assert error.value.failure.kind is FailureKind.PAGE_KILLS_WORKER
        assert [(await page).width for page in (first, *reading)] == [40] * 8
        assert seen(manager).loads == 3, "the killer kills twice"
        with pytest.raises(EngineError, match="refused for 10 minutes"):
            await read(manager, request=killer)
        assert [(await read(manager, request=page)).width for page in innocents] == [40] * 7
        assert seen(manager).loads == 3, "the killer was read a third time"


async def test_copies_of_a_page_that_kills_workers_kill_two_together(faults: Faults) -> None:
    async with running(make_config(make_model(faults_file=str(faults.file), max_batch=8))) as manager:
        killer = engines.page("black")
        faults.set(**{await key_of(manager, killer): "crash"})
        copies = [read(manager, request=killer) for _ in range(8)]
        outcomes = await asyncio.gather(*copies, return_exceptions=True)
        assert {each.failure.kind for each in outcomes if isinstance(each, EngineError)} == {
            FailureKind.PAGE_KILLS_WORKER
        }
        assert len(outcomes) == 8
        assert (await read(manager)).width == 40
        assert seen(manager).loads == 3


async def test_a_page_whose_clients_leave_is_refused_after_two_workers_died(
    faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(faulty(faults)) as manager:
        killer = engines.page("black")
        key = await key_of(manager, killer)
        for _ in range(2):
            faults.set(**{key: "crash"}, infer="hold")
            client = asyncio.create_task(read(manager, request=killer))
            await eventually(lambda: "infer is held" in caplog.text)
            caplog.clear()
            client.cancel()
            await asyncio.wait([client])
            faults.set(**{key: "crash"})
            await until(manager, lambda model: model.state is State.UNLOADED)
        with pytest.raises(EngineError) as error:
            await read(manager, request=killer)
        assert error.value.failure.kind is FailureKind.PAGE_KILLS_WORKER
        assert (await read(manager)).width == 40
        assert seen(manager).loads == 3


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


async def test_a_stuck_page_ends_its_worker_though_all_clients_have_left(
    faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
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
        await eventually(lambda: "infer hangs" in caplog.text)
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


async def test_force_ends_a_worker_at_once_and_blames_no_page(
    faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(faulty(faults)) as manager:
        await read(manager)
        stuck = worker_pid(manager)
        for _ in range(3):
            faults.set(infer="hang")
            caplog.clear()
            reading = asyncio.create_task(read(manager))
            await eventually(lambda: "infer hangs" in caplog.text)
            faults.set()
            await manager.release("alpha", force=True)
            assert (await reading).width == 40, "it is read again, and never refused"
        assert not engines.alive(stuck)
        assert seen(manager).loads == 4


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
