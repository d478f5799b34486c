"""`all`: the Service selects every pod, as if there were no awake set."""

from collections.abc import Mapping, Sequence

from ocr_operator.decide.routing.types import AwakeSet, Candidate, RoutingState
from ocr_operator.resources.spec import Routing
from ocr_wire import names


class AllPods:
    name = "all"
    hands_over = False

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
        """Choose every pod."""
        del routing, pages, calm_since, now
        woken = any(each.uid not in before and each.label == names.ASLEEP for each in pods)
        return AwakeSet(
            chosen=frozenset(each.uid for each in pods),
            why=("policy all: every pod is awake",) if woken else (),
        )

    def includes_new_pod(self, state: RoutingState) -> bool:
        del state
        return True
