"""Which idle model makes way on a full GPU for which waiter, as a pure decision with its reasons.

    waiters, residents = preemption.view(pods, now)
    plan = preemption.plan(waiters, residents, asked, rules, now)

The preemption controller feeds it and carries it out; docs/preemption.md has the rules and a worked
example. The modules:

- `types`: waiters, residents, asks, plans.
- `candidates`: from pods and their states to waiters and residents.
- `planning`: the asks for each GPU.
- `policies`: which of the models that may be asked make way.
- `messages`: what bars a model, and the sentences of a decision.
"""

from ocr_operator.decide.preemption.candidates import ReportedPod, view
from ocr_operator.decide.preemption.planning import WINDOW, plan
from ocr_operator.decide.preemption.types import (
    Asked,
    Copy,
    NoVictim,
    Outcome,
    Plan,
    PlannedAsk,
    Resident,
    Rules,
    Waiter,
)

__all__ = [
    "WINDOW",
    "Asked",
    "Copy",
    "NoVictim",
    "Outcome",
    "Plan",
    "PlannedAsk",
    "ReportedPod",
    "Resident",
    "Rules",
    "Waiter",
    "plan",
    "view",
]
