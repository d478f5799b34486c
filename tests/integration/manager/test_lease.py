"""Pages that are read under a lease, by real worker processes: deaths, deadlines, clients that go."""

import asyncio
import logging
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from msgspec import structs

from ocr_inference.manager.manager import Manager, Refused
from ocr_inference.protocol.engine import Delta, EngineError, FailureKind, InferRequest, PageResult, Shortage
from ocr_inference.scheduling import memory_ladder
from ocr_inference.scheduling.memory_ladder import Step
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


@pytest.mark.parametrize("step_seconds", [-1.0, 0.0], ids=["batches", "steps"])
async def test_a_page_at_which_the_engine_fails_harms_no_other_page(
    faults: Faults, step_seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(make_model(faults_file=str(faults.file), max_batch=8, step_seconds=step_seconds))
    culprit, innocents = engines.page("black"), [engines.page(color) for color in COLORS]
    async with running(config) as manager:
        key = await key_of(manager, culprit)
        faults.set(**{key: "fail"}, infer="hold")
        first = asyncio.create_task(read(manager))
        await until(manager, lambda model: model.in_flight == 1)
        reading = [asyncio.create_task(read(manager, request=page)) for page in [*innocents[:3], culprit]]
        reading += [asyncio.create_task(read(manager, request=page)) for page in innocents[3:]]
        await until(manager, lambda model: model.in_flight == 8)
        faults.set(**{key: "fail"})
        with pytest.raises(EngineError, match=f"{key} fails, as the faults file says") as error:
            await reading.pop(3)
        assert error.value.failure.kind is FailureKind.FAILED
        assert [(await page).width for page in (first, *reading)] == [40] * 8
        assert seen(manager).loads == 1
        await until(manager, lambda model: model.in_flight == 0)
        caplog.clear()
        again = [read(manager, request=page) for page in [*innocents[:3], culprit, *innocents[3:]]]
        outcomes = await asyncio.gather(*again, return_exceptions=True)
        assert sum(isinstance(each, EngineError) for each in outcomes) == 1
        assert "failed together" not in caplog.text, "it is read alone from the start"


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


async def test_a_page_that_memory_never_suffices_for_fails_alone_and_says_what_to_do(faults: Faults) -> None:
    async with running(faulty(faults)) as manager:
        await read(manager)
        faults.set(infer="oom")
        with pytest.raises(EngineError, match=r"whatever was tried \(alone\): out of memory") as error:
            await read(manager)
        assert error.value.failure.kind is FailureKind.OUT_OF_MEMORY
        assert "smaller picture" in error.value.failure.suggestions[0]
        faults.set()
        await read(manager)
        assert seen(manager).loads == 1


@pytest.mark.parametrize("step_seconds", [-1.0, 0.0], ids=["batches", "steps"])
async def test_a_page_that_memory_suffices_for_alone_is_read_alone(
    faults: Faults, step_seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = make_config(make_model(faults_file=str(faults.file), max_batch=8, step_seconds=step_seconds))
    large, others = engines.page("black"), [engines.page(color) for color in COLORS[:3]]
    async with running(config) as manager:
        key = await key_of(manager, large)
        faults.set(**{key: "oom together"}, infer="hold")
        first = asyncio.create_task(read(manager))
        await eventually(lambda: "infer is held" in caplog.text)
        reading = [asyncio.create_task(read(manager, request=page)) for page in [*others, large]]
        await until(manager, lambda model: model.in_flight == 5)
        faults.set(**{key: "oom together"})
        results = [await page for page in (first, *reading)]
        assert [each.shortage for each in results[:4]] == [None] * 4
        assert results[4].shortage == Shortage(step="alone", why=memory_ladder.WHY[Step.ALONE])
        assert seen(manager).loads == 1


async def test_idle_models_make_way_for_a_page_that_memory_ran_out_for(tmp_path: Path) -> None:
    (tmp_path / "idle").mkdir()
    faults, others = Faults(tmp_path), Faults(tmp_path / "idle")
    idle_one = make_model("idle", faults_file=str(others.file))
    async with running(make_config(make_model(faults_file=str(faults.file)), idle_one)) as manager:
        await read(manager)
        await read(manager, "idle")
        faults.set(infer="oom")
        others.set(offload="hold")
        reading = asyncio.create_task(read(manager))
        await until(manager, lambda model: model.state is State.OFFLOADING, "idle")
        faults.set()
        others.set()
        assert (await reading).shortage == Shortage(step="evicted", why=memory_ladder.WHY[Step.EVICTED])
        assert seen(manager, "idle").state is State.OFFLOADED


async def test_a_streamed_answer_goes_on_after_idle_models_made_way_for_it(tmp_path: Path) -> None:
    (tmp_path / "idle").mkdir()
    faults, others = Faults(tmp_path), Faults(tmp_path / "idle")
    writing = make_model(faults_file=str(faults.file), step_seconds=0.01, repeat=50)
    idle_one = make_model("idle", faults_file=str(others.file))
    async with running(make_config(writing, idle_one)) as manager:
        whole = await read(manager)
        await read(manager, "idle")
        with engines.handed() as sent:
            async with manager.lease("alpha", page=sent) as lease, aclosing(lease.stream(sent)) as parts:
                pieces = [await anext(parts)]
                faults.set(infer="oom")
                others.set(offload="hold")
                rest = asyncio.create_task(collect(parts))
                await until(manager, lambda model: model.state is State.OFFLOADING, "idle")
                faults.set()
                others.set()
                pieces += await rest
        result = pieces.pop()
        assert isinstance(result, PageResult)
        assert "".join(each.text for each in pieces) == result.text == whole.text
        assert result.shortage == Shortage(step="evicted", why=memory_ladder.WHY[Step.EVICTED])


async def collect(parts: AsyncIterator[Delta | PageResult]) -> list[Delta | PageResult]:
    return [part async for part in parts]


async def test_a_page_is_read_at_the_largest_size_that_memory_suffices_for(faults: Faults) -> None:
    page = engines.page("black")
    async with running(faulty(faults)) as manager:
        faults.set(**{await key_of(manager, page): "oom base small tiny"})
        shortage = Shortage(read_at="tiny", step="smaller", why=memory_ladder.WHY[Step.SMALLER])
        assert (await read(manager, request=page)).shortage == shortage
        named = structs.replace(page, resolution="gundam")
        with pytest.raises(EngineError, match=r"whatever was tried \(alone\)") as error:
            await read(manager, request=named)
        assert error.value.failure.suggestions[0].startswith("leave resolution out")
        assert seen(manager).loads == 1


async def test_a_deadline_ends_the_ladder(tmp_path: Path) -> None:
    (tmp_path / "idle").mkdir()
    faults, others = Faults(tmp_path), Faults(tmp_path / "idle")
    idle_one = make_model("idle", faults_file=str(others.file))
    async with running(make_config(make_model(faults_file=str(faults.file)), idle_one)) as manager:
        await read(manager)
        await read(manager, "idle")
        faults.set(infer="oom")
        others.set(offload="hold")
        with pytest.raises(Refused, match="the deadline passed"):
            await read(manager, deadline=manager.now() + 1.0)
        others.set()


async def test_memory_around_a_page_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ocr_inference")
    async with running() as manager:
        await read(manager)
    lines = [each for each in caplog.messages if each.startswith("page read")]
    assert len(lines) == 1
    assert re.fullmatch(r"page read; memory before: rss \d+ MiB; after: rss \d+ MiB", lines[0])


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
            await read(manager, deadline=manager.now() + 0.1)
        kill_worker(manager)
        await until(manager, lambda model: model.in_flight == 0)
