"""Values of the scheduler: its state, and the effects that it answers with; `commands` has what changes it.

All times are seconds on one monotonic clock that the caller reads. Tickets are numbers that the caller hands out
in increasing order; each `Acquire` is answered by exactly one `Grant`, `HandOver` or `Reject` unless a `Cancel` came
first, each `AdminRequest` by exactly one `Done`, each `OffloadIfIdle` by a `Done` or a `Reject`.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from ocr_inference.config.settings import Effective, ModelPolicy
from ocr_inference.protocol.engine import Footprint, Progress
from ocr_inference.scheduling.lifecycle import CallName, Event
from ocr_inference.scheduling.waiter_queue import Waiter, WaiterQueue
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
    OUT_OF_MEMORY = "out_of_memory"
    """Memory ran out while the model was loaded or restored, though nothing else held any; waiting doesn't help."""
    ENGINE_MISSING = "engine_missing"
    """The packages of the model's engine aren't installed; waiting doesn't help."""
    MODEL_BUSY = "model_busy"
    """The model is in use; answers an offload that was to happen at once or not at all."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Answer to a request that gets no lease, or an offload that isn't begun."""

    reason: Reason
    message: str
    retry_after_seconds: float | None = None
    """When to try again; None where that isn't known or wouldn't help."""
    suggestions: tuple[str, ...] = ()
    """What may help instead, a sentence each."""


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
class Survival:
    """Worker process that was killed and hasn't ended."""

    worker: int
    since: float
    """When it was killed."""
    seconds: float
    """Time for which its end has been waited for, when it was reported last; a suspended machine doesn't wait."""


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """Last failure of a model."""

    reason: str
    """CamelCase, as in Kubernetes conditions."""
    message: str
    time: float
    exit_code: int | None = None
    hopeless: bool = False
    """Whether memory ran out though nothing else held any to speak of: another try won't find more."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model as the scheduler knows it."""

    name: str
    policy: ModelPolicy
    declared_bytes: int | None = None
    """Device memory while ready, as configured; None: what the last load took counts."""
    can_offload: bool = True
    """Whether its weights can leave the device and stay in host memory; else it is unloaded instead."""
    outlives_worker: bool = True
    """Whether weights in host memory stay there when the worker ends; else their worker is never ended for itself."""
    unusable: str = ""
    """Why this process can never load it: its engine isn't installed. Empty where it may."""
    state: State = State.UNLOADED
    since: float = 0.0
    unloading_from: State | None = None
    running: Running | None = None
    worker: int | None = None
    """Serial of the call that started the worker process; None while there is none."""
    survival: Survival | None = None
    """Of this worker, or of one before it."""
    leases: Mapping[int, float] = field(default_factory=dict)
    """Tickets, with the times of their grants."""
    alone: bool = False
    """Whether the last lease is held alone: no other one is granted beside it."""
    servable: WaiterQueue = field(default_factory=WaiterQueue)
    """Waiters that may be served now."""
    later: WaiterQueue = field(default_factory=WaiterQueue)
    """Waiters that queued after an administrator's request; they wait for its end."""
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
    image_failure: FailureRecord | None = None
    """Why the last load couldn't keep the weights that it converted."""
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
        them; of an offloaded model what has stayed on the device."""
        match self.state:
            case State.UNLOADED | State.OFFLOADED:
                return self.resident_bytes
            case State.UNLOADING | State.FAILED if self.unloading_from is State.OFFLOADED:
                return self.resident_bytes
        return self.need_bytes

    @property
    def lacking_bytes(self) -> int:
        """Bytes that a load or restore takes on top of what is on the device before it."""
        return self.need_bytes - self.resident_bytes

    @property
    def resident_bytes(self) -> int:
        """Bytes that the worker holds of the device by the footprint; while a call runs, those of before it."""
        return 0 if self.worker is None else min(self.footprint.device_bytes, self.need_bytes)

    def freed_by(self, event: Literal[Event.OFFLOAD, Event.UNLOAD]) -> Literal[Event.OFFLOAD, Event.UNLOAD]:
        """Return the event that frees the device where this one is requested: without a way to offload, an unload."""
        return event if self.can_offload else Event.UNLOAD

    @property
    def waiting(self) -> int:
        """Number of waiters."""
        return len(self.servable) + len(self.later)

    @property
    def waiters(self) -> Sequence[Waiter]:
        """All waiters, oldest first. It goes through all of them, which a decision must not do each time."""
        return sorted((*self.servable, *self.later), key=lambda each: (each.since, each.ticket))

    def joined(self, waiter: Waiter) -> "Model":
        """Return the model with one more waiter."""
        if self._is_later(waiter):
            return replace(self, later=self.later.add(waiter))
        return replace(self, servable=self.servable.add(waiter))

    def without(self, waiters: Collection[Waiter]) -> "Model":
        """Return the model without these waiters of its own."""
        return replace(
            self,
            servable=self.servable.without(each for each in waiters if not self._is_later(each)),
            later=self.later.without(each for each in waiters if self._is_later(each)),
        )

    def with_request(self, admin_request: PendingRequest | None) -> "Model":
        """Return the model with another pending request, or with none; it decides which waiters are `later`."""
        changed, waiters = replace(self, admin_request=admin_request), self.waiters
        servable = WaiterQueue.of(each for each in waiters if not changed._is_later(each))
        return replace(changed, servable=servable, later=WaiterQueue.of(filter(changed._is_later, waiters)))

    def _is_later(self, waiter: Waiter) -> bool:
        return self.admin_request is not None and waiter.ticket >= self.admin_request.before


@dataclass(frozen=True, slots=True)
class Helper:
    """Another pod that reads pages which wait here."""

    model: str
    pages: int
    """At most so many at once."""
    tickets: frozenset[int] = frozenset()
    """Of the pages that it reads."""


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
    helpers: Mapping[str, Helper] = field(default_factory=dict)
    """By the name that `Help` gave them."""
    serial: int = 0
    draining: bool = False
    closed: bool = False


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
    stand_by: bool = False
    """Whether an `exit` is followed by a process that stands by for the next wake."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Give a lease to a waiter."""

    ticket: int
    model: str
    worker: int


@dataclass(frozen=True, slots=True)
class HandOver:
    """Let a helper read the page of a waiter, which has left the queue, until the `Release` of its ticket."""

    ticket: int
    model: str
    helper: str
    since: float
    """When it queued."""


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


Effect = StartCall | Grant | HandOver | Reject | LeaseLost | KillWorker | Done | WakeAt | ProbeMemory | Closed
