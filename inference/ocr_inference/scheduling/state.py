"""Values of the scheduler: its state, the commands that change it, the effects that it answers with.

All times are seconds on one monotonic clock that the caller reads. Tickets are numbers that the caller hands out
in increasing order; each `Acquire` is answered by exactly one `Grant` or `Reject` unless a `Cancel` came first,
each `AdminRequest` by exactly one `Done`, each `OffloadIfIdle` by a `Done` or a `Reject`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from ocr_inference.config.settings import Effective, ModelPolicy
from ocr_inference.protocol.engine import Failure, Footprint, Progress
from ocr_inference.scheduling.lifecycle import CallName, Event
from ocr_wire.states import State


class Reason(StrEnum):
    """Reason for which a request got no lease, or an offload was refused."""

    UNKNOWN_MODEL = "unknown_model"
    QUEUE_FULL = "queue_full"
    DEADLINE = "deadline"
    DRAINING = "draining"
    LOAD_FAILED = "load_failed"
    NO_FIT = "no_fit"
    """The model needs more memory than the device has; waiting doesn't help."""
    GPU_MEMORY = "gpu_memory"
    """Other processes hold the memory that the model needs, and didn't free it in time."""
    MODEL_BUSY = "model_busy"
    """The model is in use; answers an offload that was to happen at once or not at all."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Answer to a request that gets no lease, or an offload that isn't begun."""

    reason: Reason
    message: str
    retry_after_seconds: float | None = None
    """When to try again; None where that isn't known or wouldn't help."""


@dataclass(frozen=True, slots=True)
class Waiter:
    """Request that is queued for a lease."""

    ticket: int
    since: float
    deadline: float
    alone: bool = False
    """Whether it holds the only lease of its model, when it gets one: its page may kill the worker."""


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """Offload or unload by an administrator that waits until the model's leases have ended."""

    event: Literal[Event.OFFLOAD, Event.UNLOAD]
    tickets: tuple[int, ...]
    before: int
    """Waiters with a smaller ticket queued before this request and are served first; later ones wait for its end."""


@dataclass(frozen=True, slots=True)
class WaitsFor:
    """Memory that a waited-for model lacks because other processes hold it."""

    needed_bytes: int
    free_bytes: int
    """Memory that the model could have: free, about to be freed, or held by models of ours that would be evicted."""
    since: float


@dataclass(frozen=True, slots=True)
class NotBegun:
    """Outcome of a load or restore that wasn't begun, because its memory was taken meanwhile. Nothing has moved."""

    external_bytes: int


@dataclass(frozen=True, slots=True)
class Running:
    """Life-cycle call in flight; a model has at most one."""

    call: CallName | Literal["exit"]
    serial: int
    since: float
    tickets: tuple[int, ...] = ()
    """Tickets of the `AdminRequest`s that this call fulfils."""


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """Last failure of a model."""

    reason: str
    """CamelCase, as in Kubernetes conditions."""
    message: str
    time: float
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """One model as the scheduler knows it."""

    name: str
    policy: ModelPolicy
    declared_bytes: int | None = None
    """Device memory while ready, as configured; None: what the last load took counts."""
    state: State = State.UNLOADED
    since: float = 0.0
    unloading_from: State | None = None
    running: Running | None = None
    worker: int | None = None
    """Serial of the call that started the worker process; None while there is none."""
    leases: frozenset[int] = frozenset()
    alone: bool = False
    """Whether the last lease is held alone: no other one is granted beside it."""
    waiters: tuple[Waiter, ...] = ()
    """Oldest first."""
    last_activity: float = 0.0
    """Time of the last grant or end of a lease, or of becoming ready; idle timers count from it."""
    last_granted: float = 0.0
    admin_request: PendingRequest | None = None
    preload_suppressed: bool = False
    """Whether an administrator moved it off the device: it isn't preloaded again before a request comes."""
    failures: int = 0
    """Loads and restores that failed since the last success."""
    retry_at: float = 0.0
    blocked_on: frozenset[str] = frozenset()
    """Models that have to be off the device before this one is tried a second time: its last load or restore found
    less free memory than the accounting has."""
    waits_for: WaitsFor | None = None
    preload_not_before: float = 0.0
    """Time before which it isn't preloaded: it gave its memory up for another pod."""
    footprint: Footprint = field(default_factory=Footprint)
    measured_bytes: int = 0
    """Device memory that the last load or restore took."""
    loads: int = 0
    wakes: int = 0
    """Restores from host memory."""
    last_wake_seconds: float | None = None
    last_load_seconds: float | None = None
    last_failure: FailureRecord | None = None
    progress: Progress | None = None
    """Progress of the load in flight, where the engine reports it."""
    revision: str | None = None
    """Commit of a hub's branch or tag: of the load in flight, and once one succeeded, of all later loads."""

    @property
    def need_bytes(self) -> int:
        return self.measured_bytes if self.declared_bytes is None else self.declared_bytes

    @property
    def charged_bytes(self) -> int:
        """Bytes that count against the budget: from the start of a load or restore to the end of the call that frees
        them."""
        match self.state:
            case State.UNLOADED | State.OFFLOADED:
                return 0
            case State.UNLOADING | State.FAILED if self.unloading_from is State.OFFLOADED:
                return 0
        return self.need_bytes

    @property
    def servable(self) -> tuple[Waiter, ...]:
        """Waiters that may be served now; those that queued after an administrator's request wait for its end."""
        if self.admin_request is None:
            return self.waiters
        before = self.admin_request.before
        return tuple(waiter for waiter in self.waiters if waiter.ticket < before)


@dataclass(frozen=True, slots=True)
class SchedulerState:
    """Everything that decisions depend on. `scheduler.decide` replaces it and never changes it in place."""

    models: Mapping[str, Model]
    effective: Effective
    budget_bytes: int | None = None
    """Device memory for all models together; None where it isn't bounded."""
    external_bytes: int = 0
    """Device memory that other processes held when it was probed last."""
    probed_at: float = -math.inf
    probing: bool = False
    """Whether a `ProbeMemory` is in flight."""
    serial: int = 0
    draining: bool = False
    closed: bool = False


# --- commands -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Acquire:
    """Queue for a lease."""

    ticket: int
    model: str
    deadline: float
    since: float | None = None
    """Time at which the request queued first, where it queues again because its worker died. It doesn't count against
    the queue's limit then."""
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """Take a waiter out of the queue; if its ticket is granted already, give the lease back."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Release:
    """Give a lease back."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Report the end of a life-cycle call."""

    model: str
    serial: int
    outcome: Footprint | Failure | NotBegun | None


@dataclass(frozen=True, slots=True)
class Progressed:
    """Report the progress of a load."""

    model: str
    serial: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """Report a worker process that ended unasked."""

    model: str
    worker: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """Offload or unload a model for an administrator, after its leases have ended."""

    ticket: int
    model: str
    event: Literal[Event.OFFLOAD, Event.UNLOAD]
    force: bool = False
    """Whether a worker that is at work is killed, and waiters that queued before wait for the end of this."""


@dataclass(frozen=True, slots=True)
class OffloadIfIdle:
    """Offload an idle model for another pod that needs its memory, at once or not at all.

    Answered by `Done` when its weights are off the device, or by `Reject`.
    """

    ticket: int
    model: str
    min_resident_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class MemoryProbed:
    """Report device memory that other processes hold; answers `ProbeMemory`."""

    external_bytes: int


@dataclass(frozen=True, slots=True)
class Apply:
    """Work by new live settings."""

    effective: Effective


@dataclass(frozen=True, slots=True)
class Tick:
    """Decide again, because time has passed."""


@dataclass(frozen=True, slots=True)
class Close:
    """Refuse new requests, serve those that wait, then unload everything."""


Command = (
    Acquire
    | Cancel
    | Release
    | Finished
    | Progressed
    | WorkerDied
    | AdminRequest
    | OffloadIfIdle
    | MemoryProbed
    | Apply
    | Tick
    | Close
)


# --- effects --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartCall:
    """Run `call` and report its end as `Finished` with this serial.

    `load` and `restore` start the worker first where `worker == serial`. `unload` and `kill` end it and empty
    the host tier; `exit` ends it and keeps the host tier.
    """

    model: str
    call: CallName | Literal["exit"]
    serial: int
    worker: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Give a lease to a waiter."""

    ticket: int
    model: str
    worker: int


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse what was requested with a ticket."""

    ticket: int
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """Report to a lease that its worker is gone."""

    ticket: int


@dataclass(frozen=True, slots=True)
class KillWorker:
    """Kill the model's worker, and blame no page for it; its end is reported as that of any worker."""

    model: str


@dataclass(frozen=True, slots=True)
class Done:
    """Report that an administrator's request, or an offload of an idle model, is done."""

    ticket: int


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send `Tick` at this time instead of the one given before; None: no tick is needed."""

    time: float | None


@dataclass(frozen=True, slots=True)
class ProbeMemory:
    """Read what other processes hold of the device and send `MemoryProbed`; no call is started before that."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Report the end of draining: no request, no weights, no worker is left."""


Effect = StartCall | Grant | Reject | LeaseLost | KillWorker | Done | WakeAt | ProbeMemory | Closed
