"""Whose idle model makes way on a full GPU for whom, as a pure decision with its reasons.

    waiters, residents = arbitration.view(told, now)
    plan = arbitration.plan(waiters, residents, asked, rules, now)

`arbiter` feeds it and carries it out; docs/arbitration.md has the rules and a worked example.
"""

from ocr_operator.decide.preemption.candidates import Told, view
from ocr_operator.decide.preemption.planning import WINDOW, plan
from ocr_operator.decide.preemption.types import (
    Ask,
    Asked,
    Copy,
    Outcome,
    Plan,
    Resident,
    Rules,
    Stuck,
    Waiter,
)

__all__ = [
    "WINDOW",
    "Ask",
    "Asked",
    "Copy",
    "Outcome",
    "Plan",
    "Resident",
    "Rules",
    "Stuck",
    "Told",
    "Waiter",
    "plan",
    "view",
]
