"""What the outside sees of the world: values to read, made anew after each change and equal while nothing happens."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ocr_inference.device.gpu import Device
from ocr_inference.protocol.engine import ModelSpec
from ocr_inference.scheduling import lifecycle
from ocr_inference.scheduling.lifecycle import Location, State
from ocr_inference.scheduling.state import Model, SchedulerState


@dataclass(frozen=True)
class Processes:
    """What runs for models, by name."""

    workers: Mapping[str, int]
    """Their process ids."""
    standbys: Collection[str]
    """Those that are ready."""


@dataclass(frozen=True)
class LastFailure:
    reason: str
    message: str
    time: float
    """Unix time, seconds."""
    exit_code: int | None


@dataclass(frozen=True)
class LoadProgress:
    """How far a load is."""

    phase: str
    files: int
    bytes_done: int
    bytes_total: int
    """0 where it isn't known."""


@dataclass(frozen=True)
class Lack:
    """What a waited-for model lacks, since others hold it."""

    needed_bytes: int
    free_bytes: int
    since: float
    """Unix time, seconds."""


@dataclass(frozen=True)
class ModelSnapshot:
    name: str
    engine: str
    state: State
    location: Location
    worker_running: bool
    worker_pid: int | None
    standby: bool
    """Whether a process waits that has the checkpoint opened and nothing on the device."""
    since: float
    """Unix time at which the state was entered."""
    last_activity: float
    """Unix time of the last request's begin or end, or of becoming ready."""
    waits_for: Lack | None
    in_flight: int
    waiting: int
    memory_bytes: int
    """On the device."""
    host_bytes: int
    loads: int
    wakes: int
    failures: int
    """Loads and restores that failed since the last success."""
    last_wake_seconds: float | None
    """Of the last restore from host memory."""
    last_load_seconds: float | None
    """Of the last load from disk."""
    last_failure: LastFailure | None
    revision: str | None
    """The commit of a hub's repository."""
    progress: LoadProgress | None
    """While it is loaded, where the engine tells."""
    on_gpu: bool
    """Whether a ready model occupies a GPU, real or simulated."""

    @property
    def idle_since(self) -> float | None:
        """The last activity of a model that nobody uses or waits for."""
        return None if self.in_flight or self.waiting else self.last_activity


@dataclass(frozen=True)
class Snapshot:
    device: Device
    memory_used_bytes: int
    """By all models together, on the device."""
    models: tuple[ModelSnapshot, ...]
    waiting: int
    in_flight: int
    queue_limit: int
    draining: bool


def take(
    state: SchedulerState, specs: Mapping[str, ModelSpec], processes: Processes, device: Device, epoch: float
) -> Snapshot:
    """`epoch` turns the world's clock into Unix time; it must not change between snapshots."""
    models = tuple(_model(each, specs[each.name], processes, epoch) for each in state.models.values())
    return Snapshot(
        device=device,
        memory_used_bytes=sum(model.memory_bytes for model in models),
        models=models,
        waiting=sum(model.waiting for model in models),
        in_flight=sum(model.in_flight for model in models),
        queue_limit=state.effective.queue.limit,
        draining=state.draining,
    )


def _model(model: Model, spec: ModelSpec, processes: Processes, epoch: float) -> ModelSnapshot:
    on_gpu = spec.device != "cpu"
    left = model.unloading_from
    if model.worker is None and left in (State.READY, State.OFFLOADING):
        # What was on the device went with the worker; what is in host memory is still there.
        left = State.OFFLOADED
    failure, progress, lack = model.last_failure, model.progress, model.waits_for
    return ModelSnapshot(
        name=model.name,
        engine=spec.engine,
        state=model.state,
        location=lifecycle.location(model.state, on_gpu=on_gpu, unloading_from=left),
        worker_running=model.worker is not None,
        worker_pid=processes.workers.get(model.name),
        standby=model.name in processes.standbys,
        since=epoch + model.since,
        last_activity=epoch + model.last_activity,
        waits_for=None if lack is None else Lack(lack.needed_bytes, lack.free_bytes, epoch + lack.since),
        in_flight=len(model.leases),
        waiting=len(model.waiters),
        memory_bytes=model.footprint.device_bytes,
        host_bytes=model.footprint.host_bytes,
        loads=model.loads,
        wakes=model.wakes,
        failures=model.failures,
        last_wake_seconds=model.last_wake_seconds,
        last_load_seconds=model.last_load_seconds,
        last_failure=None
        if failure is None
        else LastFailure(failure.reason, failure.message, epoch + failure.time, failure.exit_code),
        revision=model.revision,
        progress=None
        if progress is None
        else LoadProgress(progress.phase, progress.files, progress.done_bytes, progress.total_bytes),
        on_gpu=on_gpu,
    )
