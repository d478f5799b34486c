"""The decision: the resource's policy chooses the set, the labels follow, and members help each other."""

from collections.abc import Iterable

from ocr_operator.decide.routing import helping
from ocr_operator.decide.routing.policies import POLICIES
from ocr_operator.decide.routing.types import Candidate, Decision, RoutingState
from ocr_operator.resources.spec import Routing
from ocr_wire import names


def decide(
    pods: Iterable[Candidate], routing: Routing, pages: int, state: RoutingState, now: float
) -> Decision:
    """Decide the set from now on. `pages` is how many requests a pod serves at once (`batching.maxPages`), `now` any
    clock in seconds that doesn't go back. The order of pods is irrelevant.
    """
    pods = sorted(pods, key=lambda each: (each.name, each.uid))
    before = state.members
    if before is None:
        before = {each.uid: each.name for each in pods if each.label == names.AWAKE}
    policy = POLICIES[routing.policy]
    found = policy.decide(pods, before, routing, pages=pages, calm_since=state.calm_since, now=now)
    members = {each.uid: each.name for each in pods if each.uid in found.chosen}
    helps, named = helping.decide(
        [each for each in pods if each.uid in members] if policy.hands_over else (),
        woken=found.wakes,
        pages=pages,
        bar=routing.max_queue_per_pod,
        named=state.helps,
        now=now,
    )
    return Decision(
        state=RoutingState(members, found.calm_since, named),
        joins=tuple(each.uid for each in pods if each.uid in members and each.label != names.AWAKE),
        leaves=tuple(each.uid for each in pods if each.uid not in members and each.label != names.ASLEEP),
        wakes=found.wakes,
        helps=helps,
        why=found.why,
        again=found.again,
    )
