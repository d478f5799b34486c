"""The owner task with real worker processes: waking, draining, closing, settings that change."""

import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest

from ocr_inference.manager.manager import Manager, Refused, Snapshot
from ocr_inference.protocol.engine import EngineError
from ocr_inference.scheduling.state import Reason
from ocr_wire.states import Location, State, Worker
from tests.support import engines
from tests.support.engines import (
    Faults,
    faulty,
    idle,
    make_config,
    make_model,
    read,
    running,
    seen,
    until,
    worker_pid,
)


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    return Faults(tmp_path)


async def test_a_request_wakes_the_model_and_reads() -> None:
    async with running() as manager:
        assert seen(manager).state is State.UNLOADED
        result = await read(manager)
        assert result.text.startswith("fake ocr of page")
        model = seen(manager)
        assert (model.state, model.location, model.loads) == (State.READY, Location.GPU, 1)


async def test_200_requests_to_a_sleeper_cause_one_wake() -> None:
    config = make_config(make_model(restore_seconds=0.3, load_seconds=0.1), queue_limit=300)
    async with running(config) as manager:
        await read(manager)
        await manager.offload()
        assert seen(manager).state is State.OFFLOADED
        results = await asyncio.gather(*(read(manager) for _ in range(200)))
        assert Counter(result.text for result in results) == {results[0].text: 200}
        assert (seen(manager).loads, seen(manager).wakes) == (1, 1)


async def test_the_whole_round_of_locations() -> None:
    async with running() as manager:
        await read(manager)
        before, pid = seen(manager), worker_pid(manager)
        await manager.offload("alpha")
        assert (seen(manager).location, seen(manager).memory_bytes) == (Location.CPU, 0)
        assert seen(manager).host_bytes == before.host_bytes > 0
        await read(manager)
        await manager.release("alpha")
        after = seen(manager)
        assert (after.location, after.host_bytes, after.worker) == (Location.UNLOADED, 0, Worker.EXITED)
        assert not engines.alive(pid)


async def test_offload_during_requests_waits_for_them() -> None:
    async with running(make_config(make_model(infer_seconds=0.5))) as manager:
        reading = [asyncio.create_task(read(manager)) for _ in range(3)]
        await until(manager, lambda model: model.in_flight == 3)
        await manager.offload()
        assert all(task.done() for task in reading)
        assert [(await task).width for task in reading] == [40, 40, 40]


async def test_a_timeout_of_zero_offloads_when_the_last_request_is_done() -> None:
    config = make_config(make_model())
    async with running(config) as manager:
        manager.apply(engines.live(config, idle=idle(offload=0)))
        async with manager.lease("alpha") as lease:
            with engines.handed() as page:
                await lease.infer(page)
            assert seen(manager).state is State.READY
        offloaded = await until(manager, lambda model: model.state is State.OFFLOADED)
        assert offloaded.worker is Worker.RUNNING


async def test_timeouts_change_while_it_runs_and_requests_do_not_notice() -> None:
    config = make_config(make_model(infer_seconds=0.3))
    async with running(config) as manager:
        manager.apply(engines.live(config, idle=idle()))
        reading = asyncio.create_task(read(manager))
        await until(manager, lambda model: model.in_flight == 1)
        manager.apply(engines.live(config, idle=idle(offload=0, leave=0)))
        assert (await reading).width == 40
        model = await until(
            manager, lambda model: model.state is State.OFFLOADED and model.worker is Worker.EXITED
        )
        assert model.location is Location.CPU
        assert model.host_bytes > 0
        manager.apply(engines.live(config, idle=idle(release=0)))
        await until(manager, lambda model: model.state is State.UNLOADED)
        assert seen(manager).host_bytes == 0


async def test_a_full_queue_and_unknown_models_are_refused() -> None:
    config = make_config(make_model(load_seconds=0.5), queue_limit=2)
    async with running(config) as manager:
        waiting = [asyncio.create_task(read(manager)) for _ in range(2)]
        await until(manager, lambda model: model.waiting == 2)
        with pytest.raises(Refused, match="2 requests are waiting"):
            await read(manager)
        with pytest.raises(Refused, match="no model 'beta'; there are alpha"):
            await read(manager, "beta")
        with pytest.raises(Refused, match="no model 'beta'"):
            await manager.offload("beta")
        await asyncio.gather(*waiting)


async def test_two_models_take_turns_where_only_one_fits() -> None:
    config = make_config(make_model("alpha", memory=600_000), make_model("beta", memory=600_000))
    async with running(config) as manager:
        used = set()

        async def watch() -> None:
            async for snapshot in manager.changes():
                used.add(snapshot.memory_used_bytes)

        watching = asyncio.create_task(watch())
        for _ in range(3):
            a, b = await asyncio.gather(read(manager, "alpha"), read(manager, "beta"))
            assert (a.text.split()[-1], b.text.split()[-1]) == ("alpha", "beta")
        watching.cancel()
        assert used == {0, 600_000}
        assert (seen(manager, "alpha").loads, seen(manager, "beta").loads) == (1, 1)
        assert seen(manager, "alpha").wakes > 0


async def test_close_lets_running_requests_end_and_leaves_no_process() -> None:
    async with running(make_config(make_model(infer_seconds=0.5))) as manager:
        reading = asyncio.create_task(read(manager))
        await until(manager, lambda model: model.in_flight == 1)
        pid = worker_pid(manager)
        closing = asyncio.create_task(manager.close())
        await until(manager, lambda _: manager.snapshot().draining)
        with pytest.raises(Refused, match="shutting down"):
            await read(manager)
        assert (await reading).width == 40
        await closing
        assert not engines.alive(pid)
    with pytest.raises(Refused, match="shut down"):
        await read(manager)


async def test_close_kills_what_hangs(faults: Faults) -> None:
    async with running(faulty(faults)) as manager:
        await read(manager)
        faults.set(infer="hang")
        reading = asyncio.create_task(read(manager))
        await until(manager, lambda model: model.in_flight == 1)
        pid = worker_pid(manager)
        await manager.close(grace_seconds=0.2)
        with pytest.raises((Refused, EngineError)):
            await reading
        assert not engines.alive(pid)


async def test_cancelling_the_owner_kills_the_workers_and_answers_everybody() -> None:
    config = make_config(make_model(load_seconds=30))
    manager = Manager(config, engines.live(config), engines.SIMULATED, environ=os.environ)
    owner = asyncio.create_task(manager.run())
    reading = asyncio.create_task(read(manager))
    pid = await engines.started(manager)
    owner.cancel()
    with pytest.raises(Refused):
        await reading
    await asyncio.wait([owner])
    assert manager.ended
    assert not engines.alive(pid)


async def test_slow_readers_of_changes_get_the_newest_only() -> None:
    async with running() as manager:
        changes = manager.changes()
        first = await anext(changes)
        assert first.models[0].state is State.UNLOADED
        await read(manager)
        await manager.offload()
        newest: Snapshot = await anext(changes)
        assert newest.models[0].state is State.OFFLOADED
        assert newest == manager.snapshot()


async def test_nothing_changes_while_nothing_happens() -> None:
    async with running() as manager:
        await read(manager)
        settled = await until(manager, lambda model: model.in_flight == 0)
        before = manager.snapshot()
        manager.apply(manager.effective)
        with pytest.raises(Refused):
            await read(manager, "nobody")
        assert manager.snapshot() is before
        assert seen(manager) == settled


async def test_an_idle_model_is_offloaded_for_others_and_a_busy_one_is_not() -> None:
    async with running(make_config(make_model(infer_seconds=0.3))) as manager:
        reading = asyncio.create_task(read(manager))
        await until(manager, lambda model: model.in_flight == 1)
        with pytest.raises(Refused, match="is in use") as refused:
            await manager.offload_idle("alpha")
        assert refused.value.refusal.reason is Reason.MODEL_BUSY
        await reading
        idle_since = (await until(manager, lambda model: model.in_flight == 0)).idle_since
        assert idle_since is not None
        with pytest.raises(Refused, match="ready for less than 60 s"):
            await manager.offload_idle("alpha", 60)
        await manager.offload_idle("alpha")
        assert (seen(manager).state, seen(manager).idle_since) == (State.OFFLOADED, idle_since)
        with pytest.raises(Refused, match="no model 'x'"):
            await manager.offload_idle("x")
