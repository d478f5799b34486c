"""The interface of routing policies."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from ocr_operator.decide.routing.types import AwakeSet, Candidate, RoutingState
from ocr_operator.resources.spec import Routing


class RoutingPolicy(Protocol):
    """Which pods the Service of a resource selects."""

    @property
    def name(self) -> str:
        """The name as `spec.routing.policy` spells it."""
        ...

    @property
    def hands_over(self) -> bool:
        """Whether pages that wait in one member are read by others."""
        ...

    def decide(
        self,
        pods: Sequence[Candidate],
        before: Mapping[str, str],
        routing: Routing,
        *,
        pages: int,
        calm_since: float | None,
        now: float,
    ) -> AwakeSet:
        """Decide the set from now on.

        `pods` are sorted by name, `before` is the set until now (UID → name), `pages` is how many requests a pod
        serves at once, `now` any clock in seconds that doesn't go back.
        """
        ...

    def includes_new_pod(self, state: RoutingState) -> bool:
        """Return whether a pod that is placed now belongs to the set at once."""
        ...
