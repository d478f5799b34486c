"""Managers as programs use them, from threads and event loops, on a device without torch."""

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ocr_inference import Closed, GPUResourceManager, NoRoom, SharedGPU
from tests.support.movers import FakeModel, FakeMover
from tests.support.patience import PATIENCE
from tests.support.waiting import until


class Loader:
    """Load function that counts, and fails as often as it is to."""

    def __init__(self, nbytes: int = 10, fails: int = 0, **model: Any) -> None:
        self.nbytes, self.fails, self.options = nbytes, fails, model
        self.models: list[FakeModel] = []

    def __call__(self) -> FakeModel:
        if self.fails:
            self.fails -= 1
            raise OSError("no such checkpoint")
        self.models.append(FakeModel(self.nbytes, **self.options))
        return self.models[-1]


Make = Callable[..., GPUResourceManager]


@pytest.fixture
def gpus() -> Iterator[Callable[..., SharedGPU]]:
    made: list[SharedGPU] = []

    def make(budget: int | None = None, capacity: int | None = None, *, on_gpu: bool = True) -> SharedGPU:
        made.append(SharedGPU(budget_bytes=budget, mover=FakeMover(capacity, on_gpu=on_gpu)))
        return made[-1]

    yield make
    for each in made:
        each.close(PATIENCE)


@pytest.fixture
def gpu(gpus: Callable[..., SharedGPU]) -> SharedGPU:
    return gpus()


def place(manager: GPUResourceManager) -> str:
    return manager.get_status()["model_location"]


def not_in_use(manager: GPUResourceManager) -> bool:
    return manager.get_status()["in_use"] == 0


def requests(gpu: SharedGPU) -> int:
    """How many calls wait for the end of leases."""
    pending = gpu.state.scheduler.models["model"].admin_request
    return 0 if pending is None else len(pending.tickets)


# --- use ------------------------------------------------------------------------------------------------------


def test_threads_that_lease_at_once_share_one_load(gpu: SharedGPU) -> None:
    load = Loader()
    manager = GPUResourceManager(None, load_func=load, gpu=gpu)
    together = threading.Barrier(6, timeout=PATIENCE)

    def use() -> int:
        with manager.lease() as model:
            together.wait()
            assert model.on_device
            return id(model)

    with ThreadPoolExecutor(6) as pool:
        models = {each.result() for each in [pool.submit(use) for _ in range(6)]}
    assert len(models) == len(load.models) == 1
    until(lambda: not_in_use(manager))


def test_a_model_in_use_is_not_offloaded_and_goes_with_its_last_lease(gpu: SharedGPU) -> None:
    manager = GPUResourceManager(0, load_func=Loader(), gpu=gpu)
    with ThreadPoolExecutor(1) as pool:
        with manager.lease() as model:
            with manager.lease():
                assert manager.force_offload() is False
            assert model.on_device
            assert place(manager) == "gpu"
            gone = pool.submit(manager.force_offload, wait=True)
            until(lambda: requests(gpu) == 2)
            with manager.lease() as again:
                assert again is model
        assert gone.result(PATIENCE) is True
    assert place(manager) == "cpu"
    assert model.moves == ["to_device", "offload"]


def test_get_model_keeps_the_seeds_ways(gpu: SharedGPU) -> None:
    load, manager = Loader(), GPUResourceManager(idle_timeout=3600, gpu=gpu)
    manager.start_monitor()
    assert (place(manager), manager.get_status()["idle_time"]) == ("unloaded", 0)
    model = manager.get_model(load)
    assert manager.get_model(load) is model
    status = manager.get_status()
    assert (status["model_location"], status["timeout"], status["device"]) == ("gpu", 3600, "fake")
    assert {
        "idle_time",
        "gpu_memory_allocated",
        "gpu_memory_reserved",
        "gpu_memory_allocated_gb",
    } <= status.keys()
    assert manager.force_offload() is True
    assert place(manager) == "cpu"
    assert manager.get_model(load) is model
    assert manager.force_release() is True
    assert place(manager) == "unloaded"
    assert manager.get_model(load) is not model
    assert len(load.models) == 2


def test_a_new_timeout_takes_effect_on_a_timer_that_runs(gpu: SharedGPU) -> None:
    manager = GPUResourceManager(3600, load_func=Loader(), gpu=gpu)
    manager.get_model()
    manager.update_timeout(0.01)
    assert manager.idle_timeout == 0.01
    until(lambda: place(manager) == "cpu")
    manager.update_release_timeout(0.01)
    until(lambda: place(manager) == "unloaded")


def test_no_timeout_runs_out_without_the_monitor(gpu: SharedGPU) -> None:
    manager = GPUResourceManager(0, load_func=Loader(), gpu=gpu)
    manager.stop_monitor()
    assert not manager.running
    manager.preheat()
    assert place(manager) == "gpu"
    manager.start_monitor()
    until(lambda: place(manager) == "cpu")


def test_preheating_brings_the_model_before_it_is_needed(gpu: SharedGPU) -> None:
    manager = GPUResourceManager(gpu=gpu)
    manager.preheat(Loader())
    assert place(manager) == "gpu"
    until(lambda: not_in_use(manager))


async def test_coroutines_do_what_their_twins_do(gpu: SharedGPU) -> None:
    load = Loader()
    manager = GPUResourceManager(load_func=load, gpu=gpu)
    await manager.apreheat()
    async with manager.alease() as model:
        async with manager.alease() as again:
            assert again is model

        async def in_a_thread() -> FakeModel:
            return await asyncio.to_thread(lambda: manager.lease().__enter__())

        assert await in_a_thread() is model
        assert await manager.aforce_offload() is False
    assert manager.get_status()["in_use"] == 1, "the thread's"
    assert await manager.aget_model() is model


async def test_a_coroutine_that_is_cancelled_gives_back_what_it_waited_for(gpus: Any) -> None:
    gpu = gpus(budget=10)
    first = GPUResourceManager(None, load_func=Loader(), gpu=gpu, name="first")
    second = GPUResourceManager(None, load_func=Loader(), gpu=gpu, name="second")
    async with first.alease():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), second.alease():
                raise AssertionError("there is no place")
    await asyncio.to_thread(until, lambda: second.get_status()["waiting"] == 0)
    assert second.get_status()["in_use"] == 0
    await first.aforce_offload(wait=True)


def test_blocks_may_be_left_in_another_context_than_they_were_entered(gpu: SharedGPU) -> None:
    manager = GPUResourceManager(load_func=Loader(), gpu=gpu)
    lease = manager.lease()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(lease.__enter__).result(PATIENCE)
        pool.submit(lease.__exit__, None, None, None).result(PATIENCE)
    until(lambda: not_in_use(manager))


# --- sharing --------------------------------------------------------------------------------------------------


def test_models_of_lower_priority_make_way_when_idle_and_the_budget_is_kept(gpus: Any) -> None:
    gpu = gpus(budget=15)
    low = GPUResourceManager(None, load_func=Loader(), gpu=gpu, name="low")
    high = GPUResourceManager(None, load_func=Loader(), gpu=gpu, name="high", priority=5)
    with (
        low.lease() as model,
        pytest.raises(TimeoutError, match="waiting for model high"),
        high.lease(timeout=0.05),
    ):
        raise AssertionError("there is no place")
    with high.lease():
        assert not model.on_device
        assert (place(low), place(high)) == ("cpu", "gpu")
    assert gpu.mover.most_bytes == 10


def test_out_of_memory_evicts_idle_models_once(gpus: Any) -> None:
    gpu = gpus(capacity=25)
    idle = [GPUResourceManager(None, load_func=Loader(), gpu=gpu) for _ in range(2)]
    for each in idle:
        each.preheat()
    large = GPUResourceManager(None, load_func=Loader(15), gpu=gpu)
    with large.lease() as model:
        assert model.on_device
    assert gpu.mover.refusals == 1
    assert [place(each) for each in idle] == ["cpu", "cpu"], (
        "all that it needs, since how much it lacks isn't known"
    )
    with idle[0].lease(), idle[1].lease(), pytest.raises(MemoryError, match="are free"):
        large.get_model()


def test_a_load_that_runs_out_of_memory_is_tried_again_after_others_left(gpus: Any) -> None:
    gpu = gpus(capacity=15)
    idle = GPUResourceManager(None, load_func=Loader(), gpu=gpu)
    idle.preheat()
    load = Loader(on_device=True)
    with GPUResourceManager(None, load_func=load, gpu=gpu).lease():
        assert place(idle) == "cpu"
    assert len(load.models) == 2


def test_a_model_larger_than_the_budget_is_refused_with_the_numbers(gpus: Any) -> None:
    manager = GPUResourceManager(load_func=Loader(20), gpu=gpus(budget=15))
    with pytest.raises(NoRoom, match="needs 20 bytes on the device, which has 15: raise budget_bytes"):
        manager.get_model()


def test_many_threads_on_managers_that_share_a_place(gpus: Any) -> None:
    gpu = gpus(budget=20)
    managers = [GPUResourceManager(None, load_func=Loader(), gpu=gpu) for _ in range(4)]
    assert [each.name for each in managers] == ["model", "model-2", "model-3", "model-4"]

    def work(number: int) -> None:
        for turn in range(15):
            with managers[(number * 7 + turn) % 4].lease() as model:
                assert model.on_device
                assert gpu.mover.used_bytes <= 20

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(work, number) for number in range(8)]:
            each.result(PATIENCE)
    assert gpu.mover.most_bytes <= 20
    until(lambda: all(map(not_in_use, managers)))


# --- what goes wrong ------------------------------------------------------------------------------------------


def test_what_a_load_function_raises_reaches_the_caller_and_the_next_one_tries_again(gpu: SharedGPU) -> None:
    manager = GPUResourceManager(load_func=Loader(fails=3), gpu=gpu)
    for _ in range(3):
        with pytest.raises(OSError, match="no such checkpoint"):
            manager.get_model()
    assert manager.get_status()["last_error"] == "OSError: no such checkpoint"
    assert manager.get_model().on_device
    assert manager.get_status()["last_error"] == ""


def test_a_load_function_that_asks_for_its_own_model_is_refused(gpu: SharedGPU) -> None:
    manager = GPUResourceManager(gpu=gpu)
    with pytest.raises(RuntimeError, match="asks for the model that it loads"):
        manager.get_model(manager.get_model)


def test_a_load_function_may_use_other_managers(gpu: SharedGPU) -> None:
    inner, load = GPUResourceManager(load_func=Loader(), gpu=gpu), Loader()

    def outer() -> FakeModel:
        with inner.lease():
            return load()

    assert GPUResourceManager(gpu=gpu).get_model(outer).on_device


def test_a_manager_without_a_load_function_says_so(gpu: SharedGPU) -> None:
    with pytest.raises(ValueError, match="model has no load function"):
        GPUResourceManager(gpu=gpu).get_model()


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e9])
def test_a_timeout_that_is_none_is_refused(gpu: SharedGPU, seconds: float) -> None:
    with pytest.raises(ValueError, match="idle_timeout has to be 0 to"):
        GPUResourceManager(seconds, gpu=gpu)
    manager = GPUResourceManager(gpu=gpu)
    with pytest.raises(ValueError, match="idle_timeout has to be 0 to"):
        manager.update_timeout(seconds)
    assert manager.idle_timeout == 60


def test_a_model_that_cannot_be_moved_is_released_and_loaded_again(gpu: SharedGPU) -> None:
    load = Loader(kept_whole="it is quantised", on_device=True)
    manager = GPUResourceManager(load_func=load, gpu=gpu)
    manager.get_model()
    assert manager.get_status()["kept_whole"] == "it is quantised"
    assert manager.force_offload()
    assert place(manager) == "unloaded"
    assert manager.get_model().on_device
    assert len(load.models) == 2


def test_without_a_gpu_a_model_stays_in_host_memory_until_it_is_released(gpus: Any) -> None:
    manager = GPUResourceManager(0.01, load_func=Loader(), gpu=gpus(on_gpu=False))
    with manager.lease() as model:
        assert place(manager) == "cpu"
    until(lambda: manager.get_status()["state"] == "offloaded")
    with manager.lease() as again:
        assert again is model
    assert model.moves == []
    manager.force_release()
    assert place(manager) == "unloaded"


def test_a_closed_manager_releases_its_model_and_refuses(gpu: SharedGPU) -> None:
    manager = GPUResourceManager(None, load_func=Loader(), gpu=gpu)
    with manager.lease() as model:
        manager.close()
        manager.close()
        assert model.on_device
    until(lambda: not model.on_device)
    for use in (
        manager.get_model,
        manager.force_offload,
        manager.start_monitor,
        lambda: manager.idle_timeout,
    ):
        with pytest.raises(Closed):
            use()
    assert place(manager) == "unloaded"


def test_a_manager_that_is_no_longer_referred_to_releases_its_model(gpu: SharedGPU) -> None:
    manager = GPUResourceManager(None, load_func=Loader(), gpu=gpu)
    model: Any = manager.get_model()
    del manager
    gc.collect()
    until(lambda: not gpu.state.scheduler.models)
    assert model.moves[-1] == "release"


def test_a_gpu_that_was_closed_refuses_all_that_waits_and_comes(gpus: Any) -> None:
    gpu = gpus(budget=10)
    first = GPUResourceManager(None, load_func=Loader(), gpu=gpu)
    second = GPUResourceManager(None, load_func=Loader(), gpu=gpu)
    with first.lease(), ThreadPoolExecutor(1) as pool:
        waits: Any = pool.submit(second.get_model)
        until(lambda: second.get_status()["waiting"])
        gpu.close(PATIENCE)
        with pytest.raises(Closed, match="has ended"):
            waits.result(PATIENCE)
    with pytest.raises(Closed):
        first.get_model()


# --- processes ------------------------------------------------------------------------------------------------

PROGRAM = """
import os, sys, threading, time
from ocr_inference import GPUResourceManager, SharedGPU
from tests.support.movers import FakeModel, FakeMover
gpu = SharedGPU(mover=FakeMover())
manager = GPUResourceManager(None, gpu=gpu, load_func=FakeModel)
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM + code],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=Path(__file__).parents[4],
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_a_program_ends_while_a_model_is_in_use_and_another_one_loads() -> None:
    out = run(
        """
began = threading.Event()
def hangs():
    began.set()
    threading.Event().wait()
lease = manager.lease(); lease.__enter__()
other = GPUResourceManager(gpu=gpu, load_func=hangs)
threading.Thread(target=other.get_model, daemon=True).start()
began.wait()
print("ends")
"""
    )
    assert out == "ends\n"


def test_a_forked_child_begins_without_models_and_loads_its_own() -> None:
    out = run(
        """
with manager.lease() as ours:
    child = os.fork()
    if not child:
        with manager.lease() as own:
            print(own is ours, own.on_device, manager.get_status()["in_use"], ours.moves, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print(manager.get_status()["in_use"], manager.get_status()["loads"])
"""
    )
    assert out == "False True 1 ['to_device']\n1 1\n"


def test_importing_the_package_imports_none_of_it() -> None:
    code = "import sys, ocr_inference; print([each for each in sys.modules if each.startswith('ocr_inference.')])"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert out.stdout == "[]\n"
    assert "'torch'" not in run("print(list(sys.modules))")
