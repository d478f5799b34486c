"""The states of a model, where its weights are in each, and the kinds of device.

Every enumeration has the word `unknown`, and reading makes it of every word that isn't there: a newer program may have
a state that this one doesn't know, and the rest of what it says counts all the same. No program writes `unknown`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class _Word(StrEnum):
    @classmethod
    def _missing_(cls, value: object) -> "_Word | None":
        """Read a word of a newer version. What is no word stays an error."""
        return cls("unknown") if isinstance(value, str) else None


class State(_Word):
    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    OFFLOADING = "offloading"
    OFFLOADED = "offloaded"
    RESTORING = "restoring"
    UNLOADING = "unloading"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Location(_Word):
    """Place of a model's weights. A state in transit reports where they still are."""

    GPU = "gpu"
    CPU = "cpu"
    UNLOADED = "unloaded"
    UNKNOWN = "unknown"


class DeviceKind(_Word):
    CUDA = "cuda"
    CPU = "cpu"
    SIMULATED = "simulated"
    UNKNOWN = "unknown"


class Worker(_Word):
    """Whether a model's worker process runs."""

    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


ENGINE_MISSING: Final = "EngineMissing"
"""Reason of the failure of a model whose engine isn't installed where it is served: it can't ever be loaded there."""

STATES: Final = tuple(each for each in State if each is not State.UNKNOWN)
LOCATIONS: Final = tuple(each for each in Location if each is not Location.UNKNOWN)
"""The words that a server of this version says."""

LOCATIONS_OF: Final[Mapping[State, frozenset[Location]]] = {
    State.UNLOADED: frozenset({Location.UNLOADED}),
    State.LOADING: frozenset({Location.UNLOADED}),
    State.READY: frozenset({Location.GPU, Location.CPU}),
    State.OFFLOADING: frozenset({Location.GPU, Location.CPU}),
    State.OFFLOADED: frozenset({Location.CPU}),
    State.RESTORING: frozenset({Location.CPU}),
    State.UNLOADING: frozenset(LOCATIONS),
    State.FAILED: frozenset({Location.UNLOADED}),
    State.UNKNOWN: frozenset(LOCATIONS),
}
"""Where weights can be in each state."""


def contradiction(state: State, location: Location, device: DeviceKind) -> str:
    """Return why a model can't be in this state, there, on this device; empty where it can."""
    if location is Location.UNKNOWN:
        return ""
    if location not in LOCATIONS_OF[state]:
        return f"{state} can't be on {location}"
    if location is Location.GPU and device is DeviceKind.CPU:
        return "is on a GPU, but the device is a CPU"
    return ""
