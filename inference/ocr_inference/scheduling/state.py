"""The manager's world as values: what is known of each model, the commands that come in, the effects that go out.

All times are seconds on one monotonic clock that the caller reads. Tickets are numbers that the caller hands out
in increasing order; each `Acquire` is answered by exactly one `Grant` or `Reject` unless a `Cancel` came first,
each `Ask` by exactly one `Settled`, each `Yield` by a `Settled` or a `Reject`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from ocr_inference.config.settings import Effective, ModelPolicy
from ocr_inference.protocol.engine import Failure, Footprint, Progress
from ocr_inference.scheduling.lifecycle import CallName, Event, State


class Reason(StrEnum):
    """Why a request got no lease."""

    UNKNOWN_MODEL = "unknown_model"
    QUEUE_FULL = "queue_full"
    DEADLINE = "deadline"
    DRAINING = "draining"
    LOAD_FAILED = "load_failed"
    NO_FIT = "no_fit"
    """The model needs more memory than the device has: no waiting helps."""
    GPU_MEMORY = "gpu_memory"
    """Others hold the memory that the model needs, and didn't give it back in time."""
    MODEL_BUSY = "model_busy"
    """Of an offload that was to happen at once or not at all."""


@dataclass(frozen=True, slots=True)
class Refusal:
    reason: Reason
    message: str
    retry_after_seconds: float | None = None
    """When it may go better; None where nobody can say or it never will."""


@dataclass(frozen=True, slots=True)
class Waiter:
    ticket: int
    since: float
    deadline: float


@dataclass(frozen=True, slots=True)
class Asked:
    """An offload or unload by an administrator that waits for leases to end."""

    event: Literal[Event.OFFLOAD, Event.UNLOAD]
    tickets: tuple[int, ...]
    before: int
    """Waiters with a smaller ticket queued before the question and are served first; later ones wait."""


@dataclass(frozen=True, slots=True)
class WaitsFor:
    """What a waited-for model lacks, since others hold it: all but this would be there."""

    needed_bytes: int
    free_bytes: int
    """What it could have without anybody's help: free, on its way, or held by models of ours that would go."""
    since: float


@dataclass(frozen=True, slots=True)
class NoRoom:
    """How a load or restore ends that wasn't begun: the memory was gone when it should. Nothing has moved."""

    others_bytes: int


@dataclass(frozen=True, slots=True)
class Running:
    """The one life-cycle call in flight."""

    call: CallName | Literal["exit"]
    serial: int
    since: float
    tickets: tuple[int, ...] = ()
    """Of `Ask`s that this call fulfils."""


@dataclass(frozen=True, slots=True)
class FailureRecord:
    reason: str
    """In CamelCase, as Kubernetes conditions have it."""
    message: str
    time: float
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    policy: ModelPolicy
    declared_bytes: int | None = None
    """Device memory while ready, as configured; None counts what the last load took."""
    state: State = State.UNLOADED
    since: float = 0.0
    unloading_from: State | None = None
    running: Running | None = None
    worker: int | None = None
    """Serial of the call that started the worker process; None while there is none."""
    leases: frozenset[int] = frozenset()
    waiters: tuple[Waiter, ...] = ()
    """Oldest first."""
    last_activity: float = 0.0
    """Last grant or end of a lease, or becoming ready: idle timers count from here."""
    last_granted: float = 0.0
    asked: Asked | None = None
    resting: bool = False
    """Sent away by an administrator: not loaded ahead again before a request comes."""
    failures: int = 0
    """Loads and restores that failed since the last success."""
    retry_at: float = 0.0
    after: frozenset[str] = frozenset()
    """Models that have to be off the device before this one is tried a second time: its last load or restore found
    less room than the books say."""
    waits_for: WaitsFor | None = None
    ahead_from: float = 0.0
    """Not loaded ahead before: its memory went to somebody who needed it more."""
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
    """How far the load in flight is, where the engine tells."""
    revision: str | None = None
    """The commit of a hub's branch or tag: of the load in flight, and once one succeeded, of all that follow."""

    @property
    def need_bytes(self) -> int:
        return self.measured_bytes if self.declared_bytes is None else self.declared_bytes

    @property
    def charged_bytes(self) -> int:
        """Counted against the budget: from the start of a load or restore to the end of what frees it."""
        match self.state:
            case State.UNLOADED | State.OFFLOADED:
                return 0
            case State.UNLOADING | State.FAILED if self.unloading_from is State.OFFLOADED:
                return 0
        return self.need_bytes

    @property
    def servable(self) -> tuple[Waiter, ...]:
        """Waiters that may be served now; those who came after an administrator's question wait for its end."""
        if self.asked is None:
            return self.waiters
        before = self.asked.before
        return tuple(waiter for waiter in self.waiters if waiter.ticket < before)


@dataclass(frozen=True, slots=True)
class World:
    """Everything that decisions depend on. Replaced, never changed, by `scheduler.decide`."""

    models: Mapping[str, Model]
    effective: Effective
    budget_bytes: int | None = None
    """Device memory for all models together; None where nothing bounds it."""
    others_bytes: int = 0
    """What other processes hold of it, as observed last."""
    observed_at: float = -math.inf
    looking: bool = False
    """A `Look` is under way."""
    serial: int = 0
    draining: bool = False
    closed: bool = False


# --- commands -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Acquire:
    ticket: int
    model: str
    deadline: float | None = None
    since: float | None = None
    """When a request whose worker died asks again: the time it first queued. It isn't counted as a new one."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this ticket any more; where it is granted already, this gives the lease back."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Release:
    ticket: int


@dataclass(frozen=True, slots=True)
class Finished:
    model: str
    serial: int
    outcome: Footprint | Failure | NoRoom | None


@dataclass(frozen=True, slots=True)
class Progressed:
    model: str
    serial: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """A worker process ended unasked."""

    model: str
    worker: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Ask:
    """An administrator wants the model offloaded or unloaded, after its leases."""

    ticket: int
    model: str
    event: Literal[Event.OFFLOAD, Event.UNLOAD]


@dataclass(frozen=True, slots=True)
class Yield:
    """Somebody else needs the memory of a model: offload it if it is idle, at once or not at all.

    Answered by `Settled` when its weights are off the device, or by `Reject`.
    """

    ticket: int
    model: str
    min_resident_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Observed:
    """The answer to `Look`."""

    others_bytes: int


@dataclass(frozen=True, slots=True)
class Apply:
    effective: Effective


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Close:
    """Refuse what comes, serve what waits, then unload everything."""


Command = (
    Acquire
    | Cancel
    | Release
    | Finished
    | Progressed
    | WorkerDied
    | Ask
    | Yield
    | Observed
    | Apply
    | Tick
    | Close
)


# --- effects --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartCall:
    """Run `call`; its end comes back as `Finished` with this serial.

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
    ticket: int
    model: str
    worker: int


@dataclass(frozen=True, slots=True)
class Reject:
    ticket: int
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Revoke:
    """The worker under this lease is gone."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Settled:
    ticket: int


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send `Tick` at this time; replaces the one before. None: nothing will happen by itself."""

    time: float | None


@dataclass(frozen=True, slots=True)
class Look:
    """Send `Observed` at once: nothing is begun on the device by what was seen before."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Drained: no request, no weights, no worker."""


Effect = StartCall | Grant | Reject | Revoke | Settled | WakeAt | Look | Closed
