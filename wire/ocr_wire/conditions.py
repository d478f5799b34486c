"""The conditions of a resource's status, one row each: what the operator says, and the plugin and others wait for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Status = Literal["True", "False"]


@dataclass(frozen=True, slots=True)
class ConditionInfo:
    type: str
    healthy: Status
    """Its status while all is well."""
    meaning: str
    """What True says, for documentation."""
    is_news: bool = True
    """Whether a change of it is reported as an Event: `Progressing` changes with every change of the resource."""


CONDITIONS: Final = (
    ConditionInfo("Ready", "True", "requests are served"),
    ConditionInfo("Progressing", "False", "pods are on their way to what the resource says", is_news=False),
    ConditionInfo("Degraded", "False", "something is wrong, and requests may still be served"),
    ConditionInfo("Placed", "True", "every pod has a node and a GPU"),
    ConditionInfo("ConfigApplied", "True", "every ready pod has echoed the live settings"),
    ConditionInfo("Stalled", "False", "nothing happens until the resource is changed"),
)
HEALTHY: Final[Mapping[str, Status]] = {each.type: each.healthy for each in CONDITIONS}
