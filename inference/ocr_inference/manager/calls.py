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
from ocr_inference.protocol.memory_use import CleanedUp
from ocr_inference.scheduling import outcomes
from ocr_inference.scheduling.commands import (
    Command,
    Finished,
    MemoryProbed,
    Progressed,
    Tick,
    WorkerDied,
    WorkerSurvived,
)
from ocr_inference.scheduling.state import Model, NotBegun, StartCall
from ocr_inference.workers.forkservers import Forkservers
from ocr_inference.workers.limits import LIMITS, Limits
from ocr_inference.workers.progress import ProgressReporter
from ocr_inference.workers.standby import Standbys
from ocr_inference.workers.worker import Worker

log = logging.getLogger(__name__)


CLEAN_UP_SECONDS = 5.0
"""Longest time that a clean-up is waited for: a worker comes to it between two steps, or after a page."""


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
        external_bytes: Callable[[str], int],
        standby_engines: Collection[str] = (),
        limits: Limits = LIMITS,
    ) -> None:
        """Prepare; models of `standby_engines` have standbys in deep idle. `external_bytes` reads the device's memory
        that other processes hold, given a model that holds no more than before its call."""
        self._specs = specs
        self._device = device
        self._memory = memory
        self._forkservers = forkservers
        self._post = post
        self._history = history
        self._external_bytes = external_bytes
        self._standbys = Standbys(forkservers, lambda: post(Tick()), limits)
        self._limits = limits
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

    def keep_standbys(self, models: Collection[str]) -> None:
        """Begin the imports of these models' engines in the background, and end the standbys of all other models."""
        for model in self._specs.keys() - models:
            self._standbys.drop(model)
        for engine in sorted({self._specs[name].engine for name in models}):
            self._forkservers.prepare(engine)

    def kill_blameless(self, why: str, model: str | None = None) -> None:
        """Kill the model's worker, if there is one, or all workers (None); the pages that they read aren't suspected
        for that. `why` is what they fail with."""
        for name, worker in self._workers.items():
            if model in (None, name):
                worker.kill(why, blameless=True)

    async def clean_up(self, models: Collection[str]) -> Mapping[str, CleanedUp | None]:
        """Have the workers of these models free what they don't need; returns what came of it, by model: None where
        a worker is at work for longer than a moment and cleans up afterwards. Models without a worker are left out."""
        workers = {name: each for name, each in self._workers.items() if name in models and not each.ended}
        outcomes = await asyncio.gather(
            *(each.clean_up(CLEAN_UP_SECONDS) for each in workers.values()), return_exceptions=True
        )
        cleaned: dict[str, CleanedUp | None] = {}
        for name, outcome in zip(workers, outcomes, strict=True):
            if isinstance(outcome, EngineError):
                log.warning("no clean-up: %s", outcome, extra={"model": name})
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                cleaned[name] = outcome
        return cleaned

    async def run(self, effect: StartCall, model: Model) -> None:
        """Carry out a call, and post what came of it. `model` is as it was when the call was decided."""
        outcome: Footprint | Failure | NotBegun
        try:
            outcome = await self._carry_out(effect, model)
        except MemoryTaken:
            outcome = NotBegun(self._external_bytes(effect.model))
        except EngineError as error:
            outcome = error.failure
        except OSError as error:
            message = f"{effect.call} of model {effect.model}: {error}"
            outcome = Failure(kind=FailureKind.FAILED, message=message)
        except Exception as error:
            # A fault of ours, yet one model's: its waiters get an answer, and other models are served on.
            log.exception("%s of model %s", effect.call, effect.model)
            outcome = Failure(kind=FailureKind.FAILED, message=f"{type(error).__name__}: {error}")
        if isinstance(outcome, Failure):
            if outcome.kind is FailureKind.OUT_OF_MEMORY:
                self._post(MemoryProbed(self._external_bytes(effect.model)))
            fields = {"model": effect.model, "call": effect.call, "reason": outcome.kind}
            log.warning("%s %s failed: %s", effect.call, effect.model, outcome.message, extra=fields)
        elif isinstance(outcome, Footprint):
            _warn_of_image(model, outcome)
        self._post(Finished(effect.model, effect.serial, outcome))

    async def _carry_out(self, effect: StartCall, model: Model) -> Footprint:
        """Return what the model holds afterwards. Raises `EngineError`, `OSError`, and for a load or restore
        `MemoryTaken`."""
        worker = self._workers.get(model.name)
        if worker is not None and worker.ended:
            worker = None
        match effect.call:
            case "load" | "restore":
                return await self._make_ready(effect, effect.call, model, worker)
            case "offload":
                if worker is None:
                    raise EngineError(Failure(kind=FailureKind.WORKER_DIED, message="there is no worker"))
                return await worker.call("offload", host_bytes=self._held(model).host_bytes)
            case "exit":
                if worker is not None:
                    await worker.stop()
                if effect.stand_by and self._specs[model.name].engine in self._standby_engines:
                    self._standbys.begin(self._pinned(model), self._hosts[model.name])
                return self._held(model)
            case "unload":
                if worker is not None:
                    await worker.call("unload", host_bytes=self._held(model).host_bytes)
                    await worker.stop()
            case "kill":
                if worker is not None:
                    worker.kill("its weights couldn't be unloaded")
                    await worker.gone()
        self._standbys.drop(model.name)
        self._hosts[model.name].resize(0)
        return Footprint()

    async def _make_ready(
        self, effect: StartCall, call: Literal["load", "restore"], model: Model, worker: Worker | None
    ) -> Footprint:
        if not self._memory.reserve(model.name, model.lacking_bytes):
            raise MemoryTaken
        if worker is None:
            assert effect.worker is not None
            worker = await self._start(model, effect.worker)
        with ProgressReporter(
            model.name, lambda it: self._post(Progressed(model.name, effect.serial, it))
        ) as reporter:
            return self._charged(
                model, await worker.call(call, reporter, host_bytes=self._held(model).host_bytes)
            )

    def _held(self, model: Model) -> Footprint:
        """Return what the model has in host memory without a worker."""
        host = self._hosts[model.name]
        if host.refers_to is not None:
            shared = model.footprint.shared_bytes
            return Footprint(host_bytes=shared, shared_bytes=shared)
        return Footprint(host_bytes=host.size)

    async def _start(self, model: Model, serial: int) -> Worker:
        assert self._tasks is not None
        if (standby := self._standbys.take(model.name)) is not None:
            worker, end = standby.worker, standby.end
        else:
            spec, host = self._pinned(model), self._hosts[model.name]
            # A forkserver that isn't kept would only make this start longer.
            forked = model.policy.idle.drop_standby_after_seconds != 0
            starter = self._forkservers if forked else self._forkservers.direct
            worker = await Worker.start(spec, host, starter, self._limits)
            end = self._tasks.create_task(worker.run(), name=f"worker of {model.name}")
        self._workers[model.name] = worker
        worker.on_survival = lambda seconds: self._post(WorkerSurvived(model.name, serial, seconds))
        self._tasks.create_task(self._watch(model.name, serial, worker, end), name=f"watch of {model.name}")
        self._post(Tick())  # the snapshot has its process id
        return worker

    def _pinned(self, model: Model) -> ModelSpec:
        """Return the spec with the commit that was loaded first: all loads of one pod read the same one."""
        spec = self._specs[model.name]
        return msgspec.structs.replace(spec, revision=model.revision or spec.revision)

    async def _watch(self, model: str, serial: int, worker: Worker, end: "asyncio.Task[Failure]") -> None:
        try:
            self._post(WorkerDied(model, serial, await end))
            await self._history.record_death(model, worker.begun)
        finally:
            worker.close()

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
        return msgspec.structs.replace(footprint, device_bytes=held)


def _warn_of_image(model: Model, footprint: Footprint) -> None:
    """Log that a load couldn't keep what it converted: once, not again for each load that fails at the same."""
    failure, before = footprint.image_failure, model.image_failure
    if failure is not None and (before is None or before.reason != outcomes.reason("image", failure)):
        log.warning("model %s: %s", model.name, failure.message, extra={"model": model.name})


def specs(
    config: Config,
    device: Device,
    cuda_engines: Collection[str],
    cache_dir: str,
    *,
    share_weights: bool = False,
) -> dict[str, ModelSpec]:
    """Return the specs that workers get, by model. `cuda_engines` compute on a CUDA device; models of other engines
    stay in host memory beside it. `share_weights`: with other servers that have the `cache_dir`."""
    return {
        each.name: msgspec.structs.replace(
            _spec(each, device, each.engine in cuda_engines),
            cache_dir=cache_dir,
            share_weights=share_weights,
        )
        for each in config.models
    }


def _spec(model: ModelConfig, device: Device, uses_cuda: bool) -> ModelSpec:
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
    )
