"""A GPU or node that a pod may be placed on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ocr_operator.decide.placement import messages
from ocr_operator.decide.placement.predicates import Price, Usage
from ocr_operator.decide.placement.types import Gpu
from ocr_operator.resources.observed import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A GPU (shared) or a node (exclusive). Only those that `fit` may be chosen; the others explain a refusal."""

    node: str
    gpu: Gpu | None
    fits: bool
    barred: bool
    """It can't work, though the scheduler, which sees devices only, would take it."""
    small: bool
    """It is too small for the pod whatever else is there: one more of the kind wouldn't help."""
    free_text: Callable[[], str]
    """For people: `3.1Gi free`, `2 of 2 taken`."""
    rank: float
    """How near it comes to being large enough: the order of a refusal's examples, highest first."""
    share: float
    """Of the memory, promised or used once the pod is there."""
    allocated: float
    """Part of the node's devices that is taken; 0 for a GPU."""
    age: int | None
    """Seconds of the data; None: decided by allocation."""
    source: str
    """Sources of the data, comma-separated where there are several; empty: none."""
    price: Price
    """What pods of a lower priority lose by it."""
    refused: int
    """How often the scheduler turned a pod of the same resource away from the node while one waits."""
    uncertain: bool
    """No usable data, and not a new and empty node."""
    unattributed: bool
    """The device plugin gave away GPUs of this node, and nothing reports which."""
    siblings: tuple[int, int]
    """Replicas of the same resource on the same GPU, on the same node."""
    live: float
    """Share of the memory in use right now."""
    busy: float
    tenants: int

    @property
    def doubts(self) -> tuple[int, int, bool, bool]:
        """Reasons to come last under every policy, the strongest first."""
        return self.refused, int(self.price), self.uncertain, self.unattributed

    @property
    def scarce(self) -> bool:
        """Whether others have it, and it would be large enough."""
        return not self.small and self.free_text().endswith(messages.SCARCE)

    @property
    def name(self) -> str:
        return f"{self.node}/{self.gpu.uuid}" if self.gpu else self.node

    @property
    def score(self) -> float:
        return round(min(1.0, max(0.0, 1.0 - self.share)), 4)


class Place(NamedTuple):
    """An eligible node with what all other pods take of it."""

    node: Node
    usage: Usage
    price: Price
