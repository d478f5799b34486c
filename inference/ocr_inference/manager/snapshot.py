"""Snapshot of the models for all code outside the owner task: made anew after each change, equal while nothing happens.

Models are in the form of the state document (`ocr_wire.state`), so nothing has to be translated for observers.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from ocr_inference.device.gpu import Device
from ocr_inference.protocol.engine import ModelSpec
from ocr_inference.scheduling import lifecycle, stuck, timers
from ocr_inference.scheduling.state import FailureRecord, Model, SchedulerState
from ocr_wire import state as document
from ocr_wire.states import State, Worker


@dataclass(frozen=True)
class Processes:
    """Processes of models, by name."""

    workers: Mapping[str, int]
    """Process ids of the workers that run."""
    standbys: Collection[str]
    """Models whose standby is ready."""


@dataclass(frozen=True)
class Moments:
    """Times of a model on the scheduler's clock, for all that counts seconds or changes: the wall clock may be set."""

    since: float
    """When the state was entered."""
    idle_since: float | None
    failed: float | None
    image_failed: float | None


@dataclass(frozen=True)
class Snapshot:
    """All models at one moment."""

    device: Device
    memory_used_bytes: int
    """Device memory of all models together."""
    models: tuple[document.Model, ...]
    queue: document.Queue
    draining: bool
    worker_pids: Mapping[str, int]
    """Process ids by model; models without a worker are left out."""
    moments: Mapping[str, Moments]

    def model(self, name: str) -> document.Model:
        """Return the model of that name; raises `KeyError`."""
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(name)


def take(
    state: SchedulerState,
    specs: Mapping[str, ModelSpec],
    processes: Processes,
    device: Device,
    *,
    epoch: float,
    now: float,
) -> Snapshot:
    """Take a snapshot at `now`. `epoch` turns the scheduler's clock into Unix time: where it changes, so does every
    time."""
    models = tuple(_model(each, specs[each.name], processes, epoch, now) for each in state.models.values())
    return Snapshot(
        device=device,
        memory_used_bytes=sum(model.memory_bytes for model in models),
        models=models,
        queue=document.Queue(
            waiting=sum(model.waiting for model in models),
            in_flight=sum(model.in_flight for model in models),
            limit=state.effective.queue.limit,
        ),
        draining=state.draining,
        worker_pids=dict(processes.workers),
        moments={each.name: _moments(each) for each in state.models.values()},
    )


def _moments(model: Model) -> Moments:
    return Moments(
        since=model.since,
        idle_since=None if model.leases or model.waiting else model.last_activity,
        failed=None if model.last_failure is None else model.last_failure.time,
        image_failed=None if model.image_failure is None else model.image_failure.time,
    )


def _model(model: Model, spec: ModelSpec, processes: Processes, epoch: float, now: float) -> document.Model:
    def timestamp(time: float | None) -> datetime | None:
        return None if time is None else document.timestamp(epoch + time)

    left = model.unloading_from
    if model.worker is None and left in (State.READY, State.OFFLOADING):
        # What was on the device went with the worker; what is in host memory is still there.
        left = State.OFFLOADED
    return document.Model(
        name=model.name,
        engine=spec.engine,
        state=model.state,
        location=lifecycle.location(model.state, on_gpu=spec.device != "cpu", unloading_from=left),
        worker=Worker.EXITED if model.worker is None else Worker.RUNNING,
        standby=model.name in processes.standbys,
        offloads=model.can_offload,
        since=timestamp(model.since),
        in_flight=len(model.leases),
        waiting=model.waiting,
        memory_bytes=model.footprint.device_bytes,
        host_bytes=model.footprint.host_bytes,
        shared_bytes=model.footprint.shared_bytes,
        packed_bytes=model.footprint.packed_bytes,
        loads=model.loads,
        wakes=model.wakes,
        failures=model.failures,
        last_wake_seconds=model.last_wake_seconds,
        last_load_seconds=model.last_load_seconds,
        last_failure=_failure(model.last_failure, epoch),
        image_failure=_failure(model.image_failure, epoch),
        revision=model.revision,
        progress=_progress(model),
        idle_since=timestamp(_moments(model).idle_since),
        oldest_lease_since=timestamp(stuck.long_lease(model, now)),
        stuck_since=timestamp(stuck.since(model)),
        waits_for=_waits_for(model, epoch),
        idle=_idle_times(model),
        preloaded=model.policy.preload and not model.preload_suppressed,
    )


def _idle_times(model: Model) -> document.IdleTimes:
    idle = timers.effective_idle(model)
    return document.IdleTimes(
        offload_after_seconds=idle.offload_after_seconds,
        exit_after_seconds=idle.exit_after_seconds,
        release_after_seconds=idle.release_after_seconds,
        drop_standby_after_seconds=idle.drop_standby_after_seconds,
    )


def _failure(failure: FailureRecord | None, epoch: float) -> document.Failure | None:
    if failure is None:
        return None
    return document.failure(failure.reason, failure.message, epoch + failure.time, failure.exit_code)


def _progress(model: Model) -> document.Progress | None:
    progress = model.progress
    if progress is None:
        return None
    return document.Progress(
        phase=progress.phase,
        files=progress.files,
        bytes_done=progress.done_bytes,
        bytes_total=progress.total_bytes,
    )


def _waits_for(model: Model, epoch: float) -> document.WaitsFor | None:
    lack = model.waits_for
    if lack is None:
        return None
    return document.WaitsFor(
        needed_bytes=lack.needed_bytes,
        free_bytes=lack.free_bytes,
        since=document.timestamp(epoch + lack.since),
    )
