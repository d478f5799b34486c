"""The awake set: the pods that a resource's Service sends requests to, as a pure decision.

    candidates = awake.candidates(pods, states, lost, models)
    decision = awake.decide(candidates, routing, pages, memory, now)
    decision.joins, then decision.leaves → patch;  decision.memory → the next call

Requests spread over sleeping replicas would wake them all, and no GPU would ever be free. So as few pods as the
queue allows get all of them: a growing queue wakes as many more as it needs at once, and after a calm time they
leave one by one. docs/awake-set.md has the rules with an example, ADR 12 the reasons.
"""

from ocr_operator.decide.routing.candidates import asked_for, candidates, patch, place
from ocr_operator.decide.routing.decide import decide
from ocr_operator.decide.routing.types import Candidate, Decision, Eligibility, RoutingState, Warmth

__all__ = [
    "Candidate",
    "Decision",
    "Eligibility",
    "RoutingState",
    "Warmth",
    "asked_for",
    "candidates",
    "decide",
    "patch",
    "place",
]
