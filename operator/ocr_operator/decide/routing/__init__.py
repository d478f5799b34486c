"""The awake set: the pods that a resource's Service sends requests to, as a pure decision.

    candidates = routing.candidates(pods, states, lost, models)
    decision = routing.decide(candidates, spec.routing, pages, state, now)
    decision.joins, then decision.leaves → patch;  decision.state → the next call

Requests spread over sleeping replicas would wake them all, and no GPU would ever be free. So as few pods as the
queue allows get all of them: a growing queue wakes as many more as it needs at once, and after a calm time they
leave one by one. docs/awake-set.md has the rules with an example, ADR 12 the reasons. The modules:

- `types`: candidates, what one decision leaves for the next, decisions.
- `candidates`: from pods and their states to candidates, and from a decision to labels.
- `policies`: which candidates are in the set.
- `helping`: which of them read pages that wait in another one.
- `decide`: the decision.
"""

from ocr_operator.decide.routing.candidates import asked_for, candidates, patch, place
from ocr_operator.decide.routing.decide import decide
from ocr_operator.decide.routing.policies import POLICIES, RoutingPolicy
from ocr_operator.decide.routing.types import Candidate, Decision, Eligibility, Help, RoutingState, Warmth

__all__ = [
    "POLICIES",
    "Candidate",
    "Decision",
    "Eligibility",
    "Help",
    "RoutingPolicy",
    "RoutingState",
    "Warmth",
    "asked_for",
    "candidates",
    "decide",
    "patch",
    "place",
]
