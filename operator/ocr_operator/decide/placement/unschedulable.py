"""When an unschedulable pod is replaced: one that was placed, and which that node can't take anymore.

    history, due = unschedulable.decide(history, pods, now, waits=True)

Its Deployment makes another, which is placed anew. The node counts as refused for as long as any pod of the resource
waits, so every node is tried before one is tried twice. From then on what the pod asks for may be nowhere, and that
isn't placement's fault: each further round takes twice as long.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ocr_operator.resources.observed import Pod

SECONDS: Final = 20.0
"""From the scheduler's refusal to the replacement, in the first round."""
DOUBLINGS: Final = 5
"""At most: about ten minutes between two replacements."""
FREE_SECONDS: Final = 600.0
"""For so long the scheduler looks for a node by itself before the pod is placed anew: what it is kept from may work by
then. A cluster autoscaler needs minutes."""
REMEMBERED_SECONDS: Final = 600.0
"""For so long refusals are remembered when no pod waits anymore: a replacement may not be there yet, and the next
replica meets the same nodes."""


@dataclass(frozen=True, slots=True)
class Unschedulable:
    """A pod that the scheduler finds no node for, though a placement named one."""

    pod: Pod
    node: str
    lost: bool
    """The node is gone or takes no pods; else another pod took what this one needs."""
    others: tuple[str, ...] = ()
    """Nodes that it may go to besides."""
    free: bool = False
    """The scheduler may pick another node, except some that couldn't work when the pod was placed."""

    @property
    def why(self) -> str:
        if self.free:
            return f"the scheduler finds no node beside those that couldn't work: {self.pod.unschedulable}"
        verb, them = ("are", "take") if self.others else ("is", "takes")
        said = (
            f"{verb} gone or {them} no pods"
            if self.lost
            else f"{verb} refused by the scheduler: {self.pod.unschedulable}"
        )
        return f"its node {self.node}{f' and {len(self.others)} others' if self.others else ''} {said}"

    @property
    def blames(self) -> bool:
        """Whether it is the node's fault."""
        return not self.lost and not self.free


@dataclass(frozen=True, slots=True)
class UnschedulableHistory:
    since: Mapping[str, float] = field(default_factory=dict)
    """Pod UID → since when it is unschedulable."""
    refusals: Mapping[str, int] = field(default_factory=dict)
    """Node → how often it was refused to pods that were replaced for it; pods replaced together count once."""
    waited: float = float("-inf")
    """When a pod of the resource last waited for a node."""


def refused(history: UnschedulableHistory) -> Mapping[str, int]:
    """The nodes that come last, the most often refused at the very end."""
    return history.refusals


def decide(
    history: UnschedulableHistory, pods: Sequence[Unschedulable], now: float, *, waits: bool
) -> tuple[UnschedulableHistory, list[Unschedulable]]:
    """The pods to replace now, and what to remember; `now` is any clock that only goes forward.

    `waits`: a pod of the resource has no node yet, for whatever reason.
    """
    waits = waits or bool(pods)
    known = history.refusals if waits or now - history.waited < REMEMBERED_SECONDS else {}
    rounds = max(known.values(), default=1) - 1
    patience = SECONDS * 2.0 ** min(rounds, DOUBLINGS)
    since = {each.pod.uid: history.since.get(each.pod.uid, now) for each in pods}
    due = [each for each in pods if now - since[each.pod.uid] >= _patience(each, patience)]
    new = {node for each in due if each.blames for node in (each.node, *each.others)}
    return UnschedulableHistory(since, Counter(known) + Counter(new), now if waits else history.waited), due


def _patience(pod: Unschedulable, patience: float) -> float:
    if pod.free:
        return FREE_SECONDS
    return SECONDS if pod.lost else patience
