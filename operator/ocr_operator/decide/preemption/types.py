"""Types of preemption: waiters, residents, asks of late, asks to come."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ocr_operator.resources.observed import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One model in one pod."""

    key: Key
    pod: str
    uid: str
    """Of the pod."""
    model: str

    def __str__(self) -> str:
        return f"{self.model} of {self.key[0]}/{self.pod}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter:
    """A model whose requests wait, since others hold the memory that it needs."""

    copy: Copy
    gpu: str
    lack_bytes: int
    """What others have to give."""
    since: datetime
    priority: int
    reserved: bool
    """The placement promised its memory to it; else it is here on demand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A ready model on a GPU."""

    copy: Copy
    gpu: str
    held_bytes: int
    priority: int
    preload: bool
    reserved: bool
    ready_since: datetime | None
    idle_since: datetime | None
    """None: it is in use."""


class Outcome(StrEnum):
    """Ends of an ask."""

    OFFLOADED = "offloaded"
    BUSY = "busy"
    """The pod said no: a request came in between, or the model is ready for too short a time."""
    FAILED = "failed"
    """No answer, or none that can be believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An ask that was sent. It may be forgotten when it is older than a minute."""

    victim: Copy
    waiter: Copy
    gpu: str
    at: datetime
    ended: datetime | None = None
    outcome: Outcome | None = None
    """None: it is in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedAsk:
    """A model is to be offloaded, if it is still idle then."""

    victim: Resident
    waiter: Waiter
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoVictim:
    """A waiter for which no model can be asked."""

    waiter: Waiter
    why: str
    """Doesn't tick: equal reason, equal text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    min_resident_seconds: float = 5.0
    """A model that is ready for a shorter time isn't asked."""
    asks_per_minute: int = 20
    """Per GPU; 0 switches preemption off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    asks: tuple[PlannedAsk, ...] = ()
    no_victims: tuple[NoVictim, ...] = ()
    retry_seconds: float | None = None
    """Seconds after which another look may find more; None: when something changes."""
