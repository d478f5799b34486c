"""The complete status of a resource and the Events of its transitions, as pure functions.

    after = status.aggregate(resource, seen, now)
    if after != before: await kube.apply_status(...)
    for event in status.events(before, after, placements): ...

docs/status.md has every condition, reason and phase. The modules:

- `types`: what a status is made from.
- `aggregate`: the status as a whole.
- `conditions`: each condition as a function.
- `pods`: the entry of a pod, and what is wrong with it.
- `events`: Events of transitions.
- `policy`: the status of an OcrIdlePolicy.
"""

from ocr_operator.decide.status.aggregate import aggregate, stalled
from ocr_operator.decide.status.events import Event, events
from ocr_operator.decide.status.pods import settles
from ocr_operator.decide.status.policy import policy
from ocr_operator.decide.status.types import PodSeen, Refusal, Seen

__all__ = [
    "Event",
    "PodSeen",
    "Refusal",
    "Seen",
    "aggregate",
    "events",
    "policy",
    "settles",
    "stalled",
]
