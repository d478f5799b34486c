"""Types of the decision: candidates, what was decided before, what is decided now."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf


class Eligibility(IntEnum):
    """Trust in a pod; a higher one only serves while there is no lower one."""

    USABLE = 0
    UNHEARD = 1
    """Ready, and not asked yet: the operator has just started, or the pod has."""
    DOUBTFUL = 2
    """Ready for Kubernetes, but it can't be asked, or it drains: it may hang."""
    OUT = 3
    """Not ready."""


class Warmth(IntEnum):
    """Speed at which a pod can serve the model: fastest first."""

    READY = 0
    RESTORING = 1
    CPU = 2
    EXITED = 3
    LOADING = 4
    UNLOADED = 5
    FAILED = 6
    """The last load or restore failed, so the next request may fail, too."""
    UNKNOWN = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A pod that is placed and not about to go."""

    uid: str
    name: str
    label: str | None
    """Of `ocr-operator.io/awake`, as it is now; None: absent."""
    eligibility: Eligibility
    warmth: Warmth = Warmth.UNKNOWN
    wake_seconds: float | None = None
    """What the last wake of this kind took, if there was one."""
    waiting: int = 0
    """Requests that wait in the pod, for their turn or for the model to wake."""
    in_flight: int = 0

    @property
    def load(self) -> int:
        return self.waiting + self.in_flight

    @property
    def speed(self) -> tuple[int, int, float, str]:
        """Sorts the fastest to answer first."""
        seconds = inf if self.wake_seconds is None else self.wake_seconds
        return self.eligibility, self.warmth, seconds, self.name


@dataclass(frozen=True, slots=True)
class Help:
    """One pod reads pages that wait in another one. Both are UIDs."""

    helped: str
    helper: str


@dataclass(frozen=True, slots=True)
class RoutingState:
    """State that one decision leaves for the next. All of it can be lost: the labels hold the rest."""

    members: Mapping[str, str] | None = None
    """The set, uid → name. None: a fresh operator believes the labels."""
    calm_since: float | None = None
    """Since when one pod fewer would do."""
    helps: Mapping[Help, float] = field(default_factory=dict)
    """When each helper was named to the pod that it helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwakeSet:
    """Decision of a policy."""

    chosen: frozenset[str]
    """UIDs."""
    why: tuple[str, ...] = ()
    """A sentence for each change of the set."""
    calm_since: float | None = None
    """Since when one pod fewer would do."""
    again: float | None = None
    """Seconds until time alone may change the answer."""
    wakes: tuple[str, ...] = ()
    """UIDs of those that join because a queue grew, and sleep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    state: RoutingState
    joins: tuple[str, ...]
    """UIDs to label awake, before any other loses its label: the Service always selects a pod."""
    leaves: tuple[str, ...]
    """UIDs to label asleep."""
    wakes: tuple[str, ...] = ()
    """UIDs of those that join because a queue grew, and sleep: to be woken now, before a request has to wait for it."""
    helps: tuple[Help, ...] = ()
    """Helpers to name to the pods in which pages wait."""
    why: tuple[str, ...]
    """A sentence for each change of the set; empty while it stays, also when labels are only mended."""
    again: float | None
    """Seconds until time alone may change the answer."""
