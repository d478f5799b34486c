"""Commands to the scheduler: what changes its state. Times and tickets are as in `state`."""

from dataclasses import dataclass
from typing import Literal

from ocr_inference.config.settings import Effective
from ocr_inference.protocol.engine import Failure, Footprint, Progress
from ocr_inference.scheduling.lifecycle import Event
from ocr_inference.scheduling.state import NotBegun


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
    movable: bool = False
    """Whether it is for a page, which another pod may read."""


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
class WorkerSurvived:
    """Report a worker process that hasn't ended for so many seconds after it was killed, or its connection closed."""

    model: str
    worker: int
    seconds: float


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
    """Offload an idle model for another pod or page that needs its memory, at once or not at all.

    Answered by `Done` when its weights are off the device, or by `Reject`.
    """

    ticket: int
    model: str
    min_resident_seconds: float = 0.0
    made_way_for: str = "another pod"


@dataclass(frozen=True, slots=True)
class MemoryProbed:
    """Report device memory that other processes hold; answers `ProbeMemory`."""

    external_bytes: int


@dataclass(frozen=True, slots=True)
class Help:
    """Let another pod, which has the model ready, read pages that wait for it here, until none waits."""

    helper: str
    model: str
    pages: int
    """At most so many at once."""


@dataclass(frozen=True, slots=True)
class HelpEnded:
    """Report a helper that can't read pages any more; those that it had queue again."""

    helper: str


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
    | WorkerSurvived
    | AdminRequest
    | OffloadIfIdle
    | MemoryProbed
    | Help
    | HelpEnded
    | Apply
    | Tick
    | Close
)
