"""The owner of all models: one task takes commands, `scheduler.decide` decides, this module carries it out."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from ocr_inference.engine import InferRequest, PageResult
from ocr_inference.gpu import Device
from ocr_inference.lifecycle import Location, State
from ocr_inference.settings import Config, Effective


@dataclass(frozen=True)
class Refusal:
    """Why a request got no lease (moves to `scheduler`; `manager.Refused.refusal`)."""

    reason: str  # unknown_model | queue_full | deadline | draining | load_failed | no_fit | worker_died
    message: str
    retry_after_seconds: float | None = None


class Refused(Exception):
    """No lease, or none any more."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


@dataclass(frozen=True)
class LastFailure:
    reason: str
    message: str
    time: float
    """Unix time, seconds."""
    exit_code: int | None


@dataclass(frozen=True)
class ModelSnapshot:
    name: str
    engine: str
    state: State
    location: Location
    worker_running: bool
    worker_pid: int | None
    since: float
    """Unix time at which the state was entered."""
    last_activity: float
    """Unix time of the last request's begin or end (or of becoming ready)."""
    in_flight: int
    waiting: int
    memory_bytes: int
    """On the device."""
    host_bytes: int
    loads: int
    wakes: int
    last_wake_seconds: float | None
    last_failure: LastFailure | None
    on_gpu: bool


@dataclass(frozen=True)
class Snapshot:
    device: Device
    memory_used_bytes: int
    models: tuple[ModelSnapshot, ...]
    waiting: int
    in_flight: int
    queue_limit: int
    draining: bool


class Lease:
    """The right to use a ready model, from a `Manager.lease` block."""

    model: str

    async def infer(self, request: InferRequest) -> PageResult:
        """Read one page. Raises `engine.EngineError` (bad page, worker died twice), `Refused` (deadline)."""
        raise NotImplementedError


class Manager:
    def __init__(self, config: Config, effective: Effective, device: Device) -> None:
        raise NotImplementedError

    async def run(self) -> None:
        """The owner task; returns when `close` has drained everything. Start it in a TaskGroup."""
        raise NotImplementedError

    def lease(self, model: str, deadline: float | None = None) -> AbstractAsyncContextManager[Lease]:
        """Wait for the model to be ready and hold it; `deadline` is in `time.monotonic()` seconds."""
        raise NotImplementedError

    async def offload(self, model: str | None = None) -> None:
        """Ask; returns when the model (None: all) is offloaded, after its leases ended."""
        raise NotImplementedError

    async def release(self, model: str | None = None) -> None:
        """Ask; returns when the model (None: all) is unloaded, after its leases ended."""
        raise NotImplementedError

    def apply(self, effective: Effective) -> None:
        """From now on work by these settings; timers count from the last activity."""
        raise NotImplementedError

    async def close(self, grace_seconds: float = 20.0) -> None:
        """Refuse new requests, let the queued and running ones end, unload; after the grace, kill."""
        raise NotImplementedError

    def snapshot(self) -> Snapshot:
        raise NotImplementedError

    def changes(self) -> AsyncIterator[Snapshot]:
        """The snapshot now, and the newest one after each change; slow readers skip what is in between."""
        raise NotImplementedError
