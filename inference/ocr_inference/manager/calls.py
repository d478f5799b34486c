"""Carries out life-cycle calls: holds the workers of all models and their weights in host memory, and reserves device
memory for loads and restores. Decides nothing; what happens meanwhile is posted to the owner task as commands.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from ocr_inference.config.settings import Config, ModelConfig
from ocr_inference.device.gpu import Device
from ocr_inference.device.memory_accounting import MemoryReservations
from ocr_inference.manager.page_history import PageHistory
from ocr_inference.manager.snapshot import Processes
from ocr_inference.protocol.engine import EngineError, Failure, FailureKind, Footprint, ModelSpec
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.scheduling.state import Command, Model, Progressed, StartCall, Tick, WorkerDied
from ocr_inference.workers.forkservers import Forkservers
from ocr_inference.workers.progress import ProgressReporter
from ocr_inference.workers.standby import Standbys
from ocr_inference.workers.worker import Worker

log = logging.getLogger(__name__)


class MemoryTaken(Exception):
    """Device memory for a load or restore that was taken by other processes meanwhile; nothing has moved."""


class Calls:
    """Workers, standbys and host memory of all models, inside an `open` block. A model has one call at a time."""

    def __init__(
        self,
        specs: Mapping[str, ModelSpec],
        device: Device,
        memory: MemoryReservations,
        forkservers: Forkservers,
        post: Callable[[Command], None],
        *,
        history: PageHistory,
        standby_engines: Collection[str] = (),
    ) -> None:
        """Prepare; models of `standby_engines` have standbys in deep idle."""
        self._specs = specs
        self._device = device
        self._memory = memory
        self._forkservers = forkservers
        self._post = post
        self._history = history
        self._standbys = Standbys(forkservers, lambda: post(Tick()))
        self._standby_engines = standby_engines
        self._hosts: dict[str, HostTier] = {}
        self._workers: dict[str, Worker] = {}
        """The latest of each model, also when it has ended."""
        self._tasks: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[asyncio.TaskGroup]:
        """Open host memory for all models, and a task group for calls and workers, which end before the block does.
        Cancelled, it kills the workers; in any case it frees all memory."""
        try:
            for name in self._specs:
                self._hosts[name] = HostTier.create(name)
            async with self._forkservers, self._standbys, asyncio.TaskGroup() as self._tasks:
                yield self._tasks
        finally:
            for host in self._hosts.values():
                host.close()

    def worker(self, model: str) -> Worker:
        """Return the model's worker that was started last; it may have died a moment ago."""
        return self._workers[model]

    def processes(self) -> Processes:
        """Return the workers that run, and the standbys that are ready."""
        pids = {name: worker.pid for name, worker in self._workers.items() if not worker.ended}
        return Processes(pids, self._standbys.ready)

    def retain(self, models: Collection[str]) -> None:
        """Keep the forkservers of these models' engines, and end all others."""
        self._forkservers.retain({self._specs[name].engine for name in models})

    def kill(self) -> None:
        for worker in self._workers.values():
            worker.kill()

    def kill_blameless(self, model: str) -> None:
        """Kill the model's worker, if there is one; the pages that it reads aren't suspected for that."""
        if (worker := self._workers.get(model)) is not None:
            worker.kill_blameless()

    async def carry_out(self, effect: StartCall, model: Model) -> Footprint:
        """Carry out a call; returns what the model holds afterwards. Raises `EngineError`, `OSError`, and for a load or
        restore `MemoryTaken`. `model` is as it was when the call was decided."""
        worker = self._workers.get(model.name)
        if worker is not None and worker.ended:
            worker = None
        match effect.call:
            case "load" | "restore":
                return await self._make_ready(effect, effect.call, model, worker)
            case "offload":
                if worker is None:
                    raise EngineError(Failure(kind=FailureKind.WORKER_DIED, message="there is no worker"))
                return await worker.call("offload")
            case "exit":
                if worker is not None:
                    await worker.stop()
                if self._specs[model.name].engine in self._standby_engines:
                    self._standbys.begin(self._pinned(model), self._hosts[model.name])
                return Footprint(host_bytes=self._hosts[model.name].size)
            case "unload":
                if worker is not None:
                    await worker.call("unload")
                    await worker.stop()
            case "kill":
                if worker is not None:
                    worker.kill()
                    await worker.gone()
        self._standbys.drop(model.name)
        self._hosts[model.name].resize(0)
        return Footprint()

    async def _make_ready(
        self, effect: StartCall, call: Literal["load", "restore"], model: Model, worker: Worker | None
    ) -> Footprint:
        if not self._memory.reserve(model.name, model.need_bytes):
            raise MemoryTaken
        if worker is None:
            assert effect.worker is not None
            worker = await self._start(model, effect.worker)
        with ProgressReporter(
            model.name, lambda it: self._post(Progressed(model.name, effect.serial, it))
        ) as reporter:
            return self._charged(model, await worker.call(call, reporter))

    async def _start(self, model: Model, serial: int) -> Worker:
        assert self._tasks is not None
        if (standby := self._standbys.take(model.name)) is not None:
            worker, end = standby.worker, standby.end
        else:
            worker = await Worker.start(self._pinned(model), self._hosts[model.name], self._forkservers)
            end = self._tasks.create_task(worker.run(), name=f"worker of {model.name}")
        self._workers[model.name] = worker
        self._tasks.create_task(self._watch(model.name, serial, worker, end), name=f"watch of {model.name}")
        self._post(Tick())  # the snapshot has its process id
        return worker

    def _pinned(self, model: Model) -> ModelSpec:
        """Return the spec with the commit that was loaded first: all loads of one pod read the same one."""
        spec = self._specs[model.name]
        return msgspec.structs.replace(spec, revision=model.revision or spec.revision)

    async def _watch(self, model: str, serial: int, worker: Worker, end: "asyncio.Task[Failure]") -> None:
        self._post(WorkerDied(model, serial, await end))
        await self._history.record_death(model, worker.begun)

    def _charged(self, model: Model, footprint: Footprint) -> Footprint:
        """Return the footprint to charge: on a simulated GPU what the model declares, since the real memory is the
        host's."""
        if self._specs[model.name].device != "simulated":
            return footprint
        held = max(model.declared_bytes or 0, footprint.device_bytes)
        if not self._memory.extend(model.name, held):
            uuid = self._device.uuid
            message = f"model {model.name} takes {held} bytes of {uuid}, which hasn't so much left"
            raise EngineError(Failure(kind=FailureKind.OUT_OF_MEMORY, message=message))
        return Footprint(device_bytes=held, host_bytes=footprint.host_bytes)


def specs(
    config: Config, device: Device, cuda_engines: Collection[str], cache_dir: str
) -> dict[str, ModelSpec]:
    """Return the specs that workers get, by model. `cuda_engines` compute on a CUDA device; models of other engines
    stay in host memory beside it."""
    return {each.name: _spec(each, device, each.engine in cuda_engines, cache_dir) for each in config.models}


def _spec(model: ModelConfig, device: Device, uses_cuda: bool, cache_dir: str) -> ModelSpec:
    source = model.source
    hub = source.hugging_face if source else None
    return ModelSpec(
        name=model.name,
        engine=model.engine,
        device="cpu" if device.kind == "cuda" and not uses_cuda else device.kind,
        path=source.path if source else None,
        repo=hub.repo if hub else None,
        revision=hub.revision if hub else None,
        gpu_uuid=device.uuid if device.kind == "cuda" else None,
        compute_capability=device.compute_capability,
        dtype=model.dtype,
        attention=model.attention,
        options=dict(model.options),
        cache_dir=cache_dir,
    )
