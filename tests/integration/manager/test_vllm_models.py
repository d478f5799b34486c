"""A model of engine `vllm` at work, with a stand-in for vLLM's server: everything but vLLM is as in a pod."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from ocr_inference.config.settings import Config, ModelConfig, Source
from ocr_inference.device.gpu import Device
from ocr_inference.engines.vllm import keeper, leftovers
from ocr_inference.manager.inbox import Refused
from ocr_inference.protocol.engine import Delta, InferRequest, PageResult
from ocr_inference.scheduling.memory_ladder import Step
from ocr_wire.states import Location, State, Worker
from tests.support import vllm_standin
from tests.support.engines import (
    Faults,
    alive,
    eventually,
    handed,
    idle,
    live,
    make_config,
    picture,
    read,
    running,
    seen,
    until,
    worker_pid,
)
from tests.support.patience import PATIENCE
from tests.support.vllmcontract import RUNNING, checkpoint, metrics_of

CPU = Device("cpu")
PAGE = InferRequest(image=picture(), task="document", max_tokens=8)


@pytest.fixture
def faults(tmp_path: Path) -> Iterator[Faults]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCR_VLLM_PYTHON", str(vllm_standin.interpreter(tmp_path)))
        patch.setenv("VLLM_STANDIN_FAULTS", str(tmp_path / "faults.json"))
        yield Faults(tmp_path)


@pytest.fixture
def config(tmp_path: Path, faults: Faults) -> Config:
    source = Source(path=str(checkpoint(tmp_path)))
    return make_config(ModelConfig(name="alpha", engine="vllm", source=source))


def folder_of(pid: int) -> Path:
    """The folder of the server of a worker."""
    places = {Path(os.readlink(f"/proc/{each}/cwd")) for each in processes(pid)}
    (folder,) = (place for place in places if place.name.startswith(leftovers.FOLDER))
    return folder


def processes(pid: int) -> list[int]:
    """The keeper of a worker's server, and what that one has started."""
    return list(keeper.descendants(pid))


async def test_a_page_is_read_and_an_offload_is_an_unload(config: Config) -> None:
    settings = live(config, idle=idle(offload=60, leave=300, release=1800))
    async with running(config, CPU, settings=settings) as manager:
        result = await read(manager, request=PAGE)
        assert (result.completion_tokens, result.family) == (8, "chat")
        model, pids = seen(manager), processes(worker_pid(manager))
        assert (model.state, model.location, model.offloads) == (State.READY, Location.CPU, False)
        assert model.idle is not None
        assert (model.idle.offload_after_seconds, model.idle.exit_after_seconds) == (-1, -1)
        assert model.idle.release_after_seconds == 300
        assert model.memory_bytes > 0
        assert len(pids) == 4
        await manager.offload()
        model = seen(manager)
        assert (model.state, model.location, model.worker) == (
            State.UNLOADED,
            Location.UNLOADED,
            Worker.EXITED,
        )
        assert not any(map(alive, pids))
        await read(manager, request=PAGE)
        assert seen(manager).loads == 2


async def test_pages_of_a_server_that_dies_are_read_by_the_next_one(config: Config, faults: Faults) -> None:
    async with running(config, CPU) as manager:
        before = await read(manager, request=PAGE)
        first = worker_pid(manager)
        faults.set(page="crash")
        reading = asyncio.create_task(read(manager, request=PAGE))
        died = await until(manager, lambda model: model.last_failure is not None)
        faults.set()
        assert died.last_failure is not None
        assert died.last_failure.reason == "WorkerDied"
        after = await reading
        assert after.text == before.text
        assert worker_pid(manager) != first


async def test_pages_of_a_server_that_ends_for_lack_of_memory_are_read_alone(
    config: Config, faults: Faults
) -> None:
    async with running(config, CPU) as manager:
        before = await read(manager, request=PAGE)
        faults.set(page="memory")
        reading = asyncio.create_task(read(manager, request=PAGE))
        await until(manager, lambda model: model.last_failure is not None)
        faults.set()
        after = await reading
        assert after.text == before.text
        assert after.shortage is not None
        assert after.shortage.step == Step.ALONE


async def test_a_client_that_leaves_stops_its_page_alone(config: Config, faults: Faults) -> None:
    async with running(config, CPU) as manager:
        await read(manager, request=PAGE)
        server = folder_of(worker_pid(manager))
        faults.set(hold="true")
        with handed(PAGE) as sent:
            async with manager.lease("alpha", page=sent) as lease, aclosing(lease.stream(sent)) as pieces:
                assert isinstance(await anext(pieces), Delta)
                assert metrics_of(server)[RUNNING] == 1
        # It is held behind its first token, so it ends by the client's leaving alone.
        await eventually(lambda: metrics_of(server)[RUNNING] == 0)
        faults.set()
        assert (await read(manager, request=PAGE)).completion_tokens == 8
        assert (seen(manager).loads, seen(manager).failures) == (1, 0)


async def test_a_drain_waits_for_the_page_that_is_read(config: Config, faults: Faults) -> None:
    async with running(config, CPU) as manager:
        before = await read(manager, request=PAGE)
        pids = processes(worker_pid(manager))
        faults.set(hold="true")
        with handed(PAGE) as sent:
            async with manager.lease("alpha", page=sent) as lease, aclosing(lease.stream(sent)) as pieces:
                first = await anext(pieces)
                closing = asyncio.create_task(manager.close(PATIENCE))
                async for snapshot in manager.changes():
                    if snapshot.draining:
                        break
                with pytest.raises(Refused):
                    await read(manager, request=PAGE)
                assert (seen(manager).state, seen(manager).in_flight) == (State.READY, 1)
                faults.set()
                *_, last = [first, *[piece async for piece in pieces]]
        await closing
        assert isinstance(last, PageResult)
        assert last.text == before.text
        assert not any(map(alive, pids))


async def test_nothing_is_left_of_a_worker_that_is_killed(config: Config) -> None:
    async with running(config, CPU) as manager:
        await read(manager, request=PAGE)
        pids = processes(worker_pid(manager))
        await manager.offload(force=True)
        await eventually(lambda: not any(map(alive, pids)))
