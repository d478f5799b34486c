"""The complete status of a resource and the Events of its transitions, as pure functions.

    after = status.aggregate(resource, seen, now)
    if after != before: await kube.apply_status(...)
    for event in status.events(before, after, placements): ...

docs/status.md has every condition, reason and phase. The modules:

- `types`: what a status is made from.
- `aggregate`: the status as a whole.
- `conditions`: each condition as a function.
- `pods`: the entry of a pod, and what is wrong with it.
- `starting`: why a pod isn't prepared.
- `events`: Events of transitions.
- `progress`: which changes can wait for the next one.
- `policy`: the status of an OcrIdlePolicy.
- `series`: a resource in numbers, for metrics.
"""

from ocr_operator.decide.status.aggregate import NOT_SEEN, aggregate, faulty, stalled
from ocr_operator.decide.status.events import Event, applied, events
from ocr_operator.decide.status.pods import settles
from ocr_operator.decide.status.policy import policy
from ocr_operator.decide.status.progress import Step, step
from ocr_operator.decide.status.series import series
from ocr_operator.decide.status.types import Edited, Fault, PodSeen, Refusal, Removal, Seen, Unwritten

__all__ = [
    "NOT_SEEN",
    "Edited",
    "Event",
    "Fault",
    "PodSeen",
    "Refusal",
    "Removal",
    "Seen",
    "Step",
    "Unwritten",
    "aggregate",
    "applied",
    "events",
    "faulty",
    "policy",
    "series",
    "settles",
    "stalled",
    "step",
]
