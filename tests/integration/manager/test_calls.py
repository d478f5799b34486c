"""Life-cycle calls with real worker processes: calls that fail, and room on the device."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from ocr_inference.config.settings import Config
from ocr_inference.device.memory_accounting import SimulatedMemoryAccounting
from ocr_inference.manager.manager import Refused
from ocr_inference.scheduling.state import Reason
from ocr_wire.live_settings import QueueValues
from ocr_wire.states import State, Worker
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


async def test_an_exited_model_is_restored_from_host_memory_by_a_new_process() -> None:
    config = make_config(make_model())
    async with running(config) as manager:
        manager.apply(engines.live(config, idle=idle(leave=0)))
        first = await read(manager)
        pid = worker_pid(manager)
        await until(manager, lambda model: model.worker is Worker.EXITED)
        manager.apply(engines.live(config, idle=idle()))
        assert (await read(manager)).text == first.text
        model = seen(manager)
        assert (model.loads, model.wakes) == (1, 1)
        assert worker_pid(manager) != pid


async def test_a_worker_killed_while_loading_fails_the_load_and_the_next_request_loads_again() -> None:
    async with running(make_config(make_model(load_seconds=0.5))) as manager:
        reading = [asyncio.create_task(read(manager)) for _ in range(3)]
        pid = await engines.started(manager)
        assert seen(manager).state is State.LOADING
        os.kill(pid, signal.SIGKILL)
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
        assert (seen(manager).state, seen(manager).worker) == (State.UNLOADED, Worker.EXITED)
        faults.set()
        assert (await read(manager)).width == 40


async def test_the_books_of_a_simulated_gpu_follow(tmp_path: Path) -> None:
    config = make_config(make_model(memory=700_000, host_bytes=100))
    accounting = SimulatedMemoryAccounting(tmp_path, "GPU-test", os.getpid(), 1_000_000)
    file = tmp_path / "usage" / "GPU-test" / f"{os.getpid()}.json"

    def used() -> int:
        return int(json.loads(file.read_text())["memory_bytes"])

    async with running(config, accounting=accounting) as manager:
        await read(manager)
        assert used() == 700_000
        assert seen(manager).memory_bytes == 700_000
        await manager.offload()
        assert used() == 0
    assert not file.exists()


async def test_a_page_waits_for_memory_that_others_hold_and_says_for_how_much(tmp_path: Path) -> None:
    config = make_config(make_model(memory=700_000, host_bytes=100))
    accounting = SimulatedMemoryAccounting(tmp_path, "GPU-test", os.getpid(), 1_000_000)
    other = tmp_path / "usage" / "GPU-test" / f"{os.getppid()}.json"
    other.write_text('{"memory_bytes": 400000, "utilization": 0.0}')
    async with running(config, accounting=accounting) as manager:
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
    accounting = SimulatedMemoryAccounting(tmp_path, "GPU-test", os.getpid(), 1_000_000)
    other = tmp_path / "usage" / "GPU-test" / f"{os.getppid()}.json"
    other.write_text('{"memory_bytes": 400000, "utilization": 0.0}')
    async with running(config, accounting=accounting) as manager:
        with pytest.raises(Refused, match="needs 700000 bytes of GPU memory, 600000 are free") as refused:
            await read(manager)
        assert refused.value.refusal.reason is Reason.GPU_MEMORY
        assert seen(manager).waits_for is None


class LateBooks(SimulatedMemoryAccounting):
    """Others come between the look and the booking, as often as the test says."""

    def __init__(self, folder: Path, times: int) -> None:
        super().__init__(folder, "GPU-test", os.getpid(), 1_000_000)
        self.times = times

    def reserve(self, need_bytes: int) -> bool:
        self.times -= 1
        return self.times < 0 and super().reserve(need_bytes)


async def test_a_lost_race_for_memory_is_tried_again_and_fails_nothing(tmp_path: Path) -> None:
    config = make_config(make_model(memory=700_000))
    async with running(config, accounting=LateBooks(tmp_path, times=3)) as manager:
        await read(manager)
        model = seen(manager)
        assert (model.state, model.loads, model.last_failure) == (State.READY, 1, None)


async def test_a_simulated_model_that_takes_more_than_there_is_fails_its_load(tmp_path: Path) -> None:
    accounting = SimulatedMemoryAccounting(tmp_path, "GPU-test", os.getpid(), 1_000_000)
    async with running(make_config(make_model(device_bytes=1_100_000)), accounting=accounting) as manager:
        with pytest.raises(Refused, match="takes 1100000 bytes of GPU-test, which hasn't so much left"):
            await read(manager)
        await until(manager, lambda model: model.state is State.UNLOADED)
        assert manager.snapshot().memory_used_bytes == 0
