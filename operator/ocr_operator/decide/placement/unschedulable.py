"""When an unschedulable pod is replaced: one that was placed, and which that node can't take anymore.

    history, due = unschedulable.decide(history, pods, now)

Its Deployment makes another, which is placed anew. Where the scheduler refuses node after node, what the pod asks for
may be nowhere (CPU, a volume), and that isn't placement's fault: then each further try comes after twice as long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ocr_operator.resources.observed import Pod

SECONDS: Final = 20.0
"""From the scheduler's refusal to the replacement."""
DOUBLINGS: Final = 5
"""At most: about ten minutes between two replacements."""
REMEMBERED_SECONDS: Final = 600.0
"""For so long a refusal counts, and the refused node comes last."""


@dataclass(frozen=True, slots=True)
class Unschedulable:
    """A pod that the scheduler finds no node for, though a placement named one."""

    pod: Pod
    node: str
    lost: bool
    """The node is gone or takes no pods; else another pod took what this one needs."""


@dataclass(frozen=True, slots=True)
class UnschedulableHistory:
    since: Mapping[str, float] = field(default_factory=dict)
    """Pod UID → since when it is unschedulable."""
    refusals: tuple[tuple[float, str], ...] = ()
    """When which node was refused to a pod that was replaced for it."""


def refused(history: UnschedulableHistory, now: float) -> frozenset[str]:
    """The nodes that come last."""
    return frozenset(node for at, node in history.refusals if now - at < REMEMBERED_SECONDS)


def decide(
    history: UnschedulableHistory, pods: Sequence[Unschedulable], now: float
) -> tuple[UnschedulableHistory, list[Unschedulable]]:
    """The pods to replace now, and what to remember; `now` is any clock that only goes forward."""
    recent = tuple(each for each in history.refusals if now - each[0] < REMEMBERED_SECONDS)
    times = len({at for at, _ in recent})
    patience = SECONDS * 2.0 ** min(times, DOUBLINGS)
    since = {each.pod.uid: history.since.get(each.pod.uid, now) for each in pods}
    due = [each for each in pods if now - since[each.pod.uid] >= (SECONDS if each.lost else patience)]
    new = tuple(sorted((now, each.node) for each in due if not each.lost))
    return UnschedulableHistory(since, recent + new), due
