"""The owner task with real worker processes: waking, draining, deaths, deadlines, settings that change."""

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from ocr_inference.books import SimulatedBooks
from ocr_inference.engine import EngineError, FailureKind, InferRequest
from ocr_inference.lifecycle import Location, State
from ocr_inference.manager import Manager, Refused, Snapshot
from ocr_inference.settings import Config, QueueValues
from ocr_inference.world import Reason
from tests.support import engines
from tests.support.engines import idle, make_config, make_model, read, running, seen, until


class Faults:
    """Tells a running fake engine how its next calls go."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "faults.json"
        self.set()

    def set(self, **faults: str) -> None:
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(faults))
        part.replace(self.file)


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    return Faults(tmp_path)


def faulty(faults: Faults) -> Config:
    return make_config(make_model(faults_file=str(faults.file)))


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
        before = seen(manager)
        await manager.offload("alpha")
        assert (seen(manager).location, seen(manager).memory_bytes) == (Location.CPU, 0)
        assert seen(manager).host_bytes == before.host_bytes > 0
        await read(manager)
        await manager.release("alpha")
        after = seen(manager)
        assert (after.location, after.host_bytes, after.worker_running) == (Location.UNLOADED, 0, False)
        assert before.worker_pid is not None
        assert not engines.alive(before.worker_pid)


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
            await lease.infer(engines.page())
            assert seen(manager).state is State.READY
        assert (await until(manager, lambda model: model.state is State.OFFLOADED)).worker_running


async def test_timeouts_change_while_it_runs_and_requests_do_not_notice() -> None:
    config = make_config(make_model(infer_seconds=0.3))
    async with running(config) as manager:
        manager.apply(engines.live(config, idle=idle()))
        reading = asyncio.create_task(read(manager))
        await until(manager, lambda model: model.in_flight == 1)
        manager.apply(engines.live(config, idle=idle(offload=0, leave=0)))
        assert (await reading).width == 40
        model = await until(
            manager, lambda model: model.state is State.OFFLOADED and not model.worker_running
        )
        assert model.location is Location.CPU
        assert model.host_bytes > 0
        manager.apply(engines.live(config, idle=idle(release=0)))
        await until(manager, lambda model: model.state is State.UNLOADED)
        assert seen(manager).host_bytes == 0


async def test_an_exited_model_is_restored_from_host_memory_by_a_new_process() -> None:
    config = make_config(make_model())
    async with running(config) as manager:
        manager.apply(engines.live(config, idle=idle(leave=0)))
        first = await read(manager)
        pid = seen(manager).worker_pid
        await until(manager, lambda model: not model.worker_running)
        manager.apply(engines.live(config, idle=idle()))
        assert (await read(manager)).text == first.text
        model = seen(manager)
        assert (model.loads, model.wakes) == (1, 1)
        assert model.worker_pid != pid


async def test_a_worker_killed_while_reading_costs_a_second_try() -> None:
    async with running(make_config(make_model(infer_seconds=0.5))) as manager:
        reading = asyncio.create_task(read(manager))
        model = await until(manager, lambda model: model.in_flight == 1)
        assert model.worker_pid is not None
        os.kill(model.worker_pid, signal.SIGKILL)
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


async def test_a_worker_killed_while_loading_fails_the_load_and_the_next_request_loads_again() -> None:
    async with running(make_config(make_model(load_seconds=0.5))) as manager:
        reading = [asyncio.create_task(read(manager)) for _ in range(3)]
        model = await until(
            manager, lambda model: model.state is State.LOADING and model.worker_pid is not None
        )
        assert model.worker_pid is not None
        os.kill(model.worker_pid, signal.SIGKILL)
        for task in reading:
            with pytest.raises(Refused, match=r"could not be loaded.*SIGKILL") as error:
                await task
            assert error.value.refusal.reason is Reason.LOAD_FAILED
        assert (await read(manager)).width == 40


@pytest.mark.parametrize(("fault", "reason"), [("fail", "LoadFailed"), ("oom", "OutOfMemory")])
async def test_a_failing_load_says_why_and_recovers(faults: Faults, fault: str, reason: str) -> None:
    faults.set(load=fault)
    async with running(faulty(faults)) as manager:
        with pytest.raises(Refused, match="as the faults file says"):
            await read(manager)
        model = await until(manager, lambda model: model.state is State.UNLOADED)
        assert model.last_failure is not None
        assert model.last_failure.reason == reason
        assert model.host_bytes == 0
        faults.set()
        assert (await read(manager)).width == 40


@pytest.mark.parametrize("call", ["offload", "restore", "unload"])
async def test_calls_that_fail_end_in_a_model_that_loads_again(faults: Faults, call: str) -> None:
    async with running(faulty(faults)) as manager:
        await read(manager)
        faults.set(**{call: "fail"})
        await manager.offload()
        if call == "restore":
            with pytest.raises(Refused, match="restore fails"):
                await read(manager)
        await manager.release()
        assert (seen(manager).state, seen(manager).worker_running) == (State.UNLOADED, False)
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


async def test_deadlines_hold_while_waiting_and_while_reading() -> None:
    async with running(make_config(make_model(load_seconds=0.5, infer_seconds=0.5))) as manager:
        with pytest.raises(Refused, match="waiting for model alpha") as error:
            async with manager.lease("alpha", manager.now() + 0.1):
                pass
        assert error.value.refusal.reason is Reason.DEADLINE
        await until(manager, lambda model: model.state is State.READY)
        with pytest.raises(Refused, match="reading the page"):
            async with manager.lease("alpha", manager.now() + 0.1) as lease:
                await lease.infer(engines.page())
        await until(manager, lambda model: model.in_flight == 0)


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
        model = await until(manager, lambda model: model.in_flight == 1)
        closing = asyncio.create_task(manager.close())
        await until(manager, lambda _: manager.snapshot().draining)
        with pytest.raises(Refused, match="shutting down"):
            await read(manager)
        assert (await reading).width == 40
        await closing
        assert model.worker_pid is not None
        assert not engines.alive(model.worker_pid)
    with pytest.raises(Refused, match="shut down"):
        await read(manager)


async def test_close_kills_what_hangs(faults: Faults) -> None:
    async with running(faulty(faults)) as manager:
        await read(manager)
        faults.set(infer="hang")
        reading = asyncio.create_task(read(manager))
        model = await until(manager, lambda model: model.in_flight == 1)
        await manager.close(grace_seconds=0.2)
        with pytest.raises((Refused, EngineError)):
            await reading
        assert model.worker_pid is not None
        assert not engines.alive(model.worker_pid)


async def test_cancelling_the_owner_kills_the_workers_and_answers_everybody() -> None:
    config = make_config(make_model(load_seconds=30))
    manager = Manager(config, engines.live(config), engines.SIMULATED, environ=os.environ)
    owner = asyncio.create_task(manager.run())
    reading = asyncio.create_task(read(manager))
    model = await until(manager, lambda model: model.worker_pid is not None)
    owner.cancel()
    with pytest.raises(Refused):
        await reading
    await asyncio.wait([owner])
    assert manager.ended
    assert model.worker_pid is not None
    assert not engines.alive(model.worker_pid)


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


async def test_the_books_of_a_simulated_gpu_follow(tmp_path: Path) -> None:
    config = make_config(make_model(memory=700_000, host_bytes=100))
    books = SimulatedBooks(tmp_path, "GPU-test", os.getpid(), 1_000_000)
    file = tmp_path / "usage" / "GPU-test" / f"{os.getpid()}.json"

    def used() -> int:
        return int(json.loads(file.read_text())["memory_bytes"])

    async with running(config, books=books) as manager:
        await read(manager)
        assert used() == 700_000
        assert seen(manager).memory_bytes == 700_000
        await manager.offload()
        assert used() == 0
    assert not file.exists()


async def test_a_page_waits_for_memory_that_others_hold_and_says_for_how_much(tmp_path: Path) -> None:
    config = make_config(make_model(memory=700_000, host_bytes=100))
    books = SimulatedBooks(tmp_path, "GPU-test", os.getpid(), 1_000_000)
    other = tmp_path / "usage" / "GPU-test" / f"{os.getppid()}.json"
    other.write_text('{"memory_bytes": 400000, "utilization": 0.0}')
    async with running(config, books=books) as manager:
        reading = asyncio.create_task(read(manager))
        model = await until(manager, lambda model: model.waits_for is not None)
        assert model.waits_for is not None
        assert (model.waits_for.needed_bytes, model.waits_for.free_bytes) == (700_000, 600_000)
        assert (model.state, model.idle_since) == (State.UNLOADED, None)
        other.unlink()
        await reading
        model = seen(manager)
        assert (model.state, model.waits_for, model.loads) == (State.READY, None, 1)


async def test_who_gets_no_memory_in_time_is_refused(tmp_path: Path) -> None:
    config = Config(models=(make_model(memory=700_000),), queue=QueueValues(patience_seconds=0))
    books = SimulatedBooks(tmp_path, "GPU-test", os.getpid(), 1_000_000)
    other = tmp_path / "usage" / "GPU-test" / f"{os.getppid()}.json"
    other.write_text('{"memory_bytes": 400000, "utilization": 0.0}')
    async with running(config, books=books) as manager:
        with pytest.raises(Refused, match="needs 700000 bytes of GPU memory, 600000 are free") as refused:
            await read(manager)
        assert refused.value.refusal.reason is Reason.GPU_MEMORY
        assert seen(manager).waits_for is None


class LateBooks(SimulatedBooks):
    """Others come between the look and the booking, as often as the test says."""

    def __init__(self, folder: Path, times: int) -> None:
        super().__init__(folder, "GPU-test", os.getpid(), 1_000_000)
        self.times = times

    def take(self, need_bytes: int) -> bool:
        self.times -= 1
        return self.times < 0 and super().take(need_bytes)


async def test_a_lost_race_for_memory_is_tried_again_and_fails_nothing(tmp_path: Path) -> None:
    config = make_config(make_model(memory=700_000))
    async with running(config, books=LateBooks(tmp_path, times=3)) as manager:
        await read(manager)
        model = seen(manager)
        assert (model.state, model.loads, model.last_failure) == (State.READY, 1, None)


async def test_a_simulated_model_that_takes_more_than_there_is_fails_its_load(tmp_path: Path) -> None:
    books = SimulatedBooks(tmp_path, "GPU-test", os.getpid(), 1_000_000)
    async with running(make_config(make_model(device_bytes=1_100_000)), books=books) as manager:
        with pytest.raises(Refused, match="takes 1100000 bytes of GPU-test, which hasn't so much left"):
            await read(manager)
        await until(manager, lambda model: model.state is State.UNLOADED)
        assert manager.snapshot().memory_used_bytes == 0


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
