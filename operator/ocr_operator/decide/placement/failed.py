"""Pods that ended though they should run on: which nodes they make doubtful, and how long the next pod waits.

A kubelet refuses a pod that it can't admit (`UnexpectedAdmissionError`, `OutOfnvidia.com/gpu`), and ends pods when its
node runs short of something or shuts down. Such a pod is `Failed` for good, and its ReplicaSet makes another at once,
without any delay of its own: pinned to the same node, that would be a pod a second. So the node comes last for a while,
and the gate of the next pod stays shut for longer with each pod in a row that ended soon.

    history = failed.remember(history, pods, time, now)
    failed.refused(history, pods, time)                # nodes that come last
    failed.wait(history, pods, pod, replicas, time)    # whether the gate of `pod` stays shut

Times are those of a clock that only goes forward: the clocks of nodes may be wrong.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ocr_operator.decide.placement.types import NoFit, NoFitReason
from ocr_operator.resources import observed
from ocr_operator.resources.observed import Pod
from ocr_wire.text import clean

REMEMBERED_SECONDS: Final = 600.0
"""For so long an end makes its node doubtful, and is reported."""
IN_A_ROW_SECONDS: Final = 3600.0
"""For so long it counts for the wait of the next pod."""
SOON: Final = timedelta(minutes=10)
"""A pod that lived longer worked, and what ended it then may be over: it delays none. As long as the kubelet's own
memory of containers that crash."""
FIRST_SECONDS: Final = 10.0
"""The wait after the second one in a row; the first is replaced at once, since the next may go to another node."""
MAX_MESSAGE: Final = 512
DOUBLINGS: Final = 5
"""At most: 320 s between two pods."""


@dataclass(frozen=True, slots=True)
class End:
    """When a pod ended: by a clock that only goes forward, and by the wall clock, for people."""

    at: float
    time: datetime


FailureHistory = Mapping[str, End]
"""Pod UID → when it ended."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a gated pod isn't placed yet."""

    seconds: float
    until: datetime
    count: int
    """Pods that ended in a row."""
    last: Pod


def remember(history: FailureHistory, pods: Iterable[Pod], time: float, now: datetime) -> FailureHistory:
    """The ends of all pods that are finished; one that was known before keeps its time."""
    ends: dict[str, End] = {}
    for pod in pods:
        if not pod.finished:
            continue
        known = history.get(pod.uid)
        if known is None:
            wall = min(now, pod.ended or now)
            known = End(time - (now - wall).total_seconds(), wall)
        ends[pod.uid] = known
    return ends


def recent(history: FailureHistory, pods: Iterable[Pod], time: float) -> list[Pod]:
    """The pods that ended lately, the last one first."""
    ended = [pod for pod in pods if _within(history, pod, time, REMEMBERED_SECONDS)]
    return sorted(ended, key=lambda pod: (-history[pod.uid].at, pod.name))


def fades(history: FailureHistory, time: float) -> float | None:
    """Return the seconds until one of the ends is no longer reported; None while none is."""
    left = (end.at + REMEMBERED_SECONDS - time for end in history.values())
    return min((each for each in left if each > 0), default=None)


def refused(history: FailureHistory, pods: Iterable[Pod], time: float) -> Counter[str]:
    """Node → how many pods ended on it lately."""
    return Counter(pod.node for pod in recent(history, pods, time) if pod.node)


def wait(history: FailureHistory, pods: Sequence[Pod], pod: Pod, replicas: int, time: float) -> Wait | None:
    """Return how long the gate of `pod` stays shut because pods of the same template ended; None if it needn't.

    As many pods as there are replicas make one round: a hundred that are refused at once aren't a hundred in a row.
    """
    same = [
        each
        for each in pods
        if each.owner == pod.owner and _soon(each) and _within(history, each, time, IN_A_ROW_SECONDS)
    ]
    rounds = -(-len(same) // max(1, replicas))
    if rounds < 2:
        return None
    last = max(same, key=lambda each: (history[each.uid].at, each.name))
    pause = FIRST_SECONDS * 2.0 ** min(rounds - 2, DOUBLINGS)
    end = history[last.uid]
    left = end.at + pause - time
    return Wait(left, end.time + timedelta(seconds=pause), len(same), last) if left > 0 else None


def nofit(pause: Wait) -> NoFit:
    """Why the pod waits, without a number that ticks."""
    why = f"{pause.count} pods in a row ended soon, the last one, {pause.last.name}, {sentence(pause.last)}"
    message = f"not placed before {observed.stamp(pause.until)}: {why}"
    return NoFit(reason=NoFitReason.BACK_OFF, message=clean(message, MAX_MESSAGE))


def sentence(pod: Pod) -> str:
    """Say how a pod ended, in the kubelet's words."""
    where = f" on {pod.node}" if pod.node else ""
    if pod.phase == "Succeeded":
        why = "its kubelet stopped it, perhaps for labels of the node that have changed"
        return f"ended{where} without a failure, as no pod of a Deployment does by itself: {why}"
    said = ": ".join(each for each in (pod.reason, pod.message) if each)
    return f"failed{where}" + (f": {said}" if said else "")


def _within(history: FailureHistory, pod: Pod, time: float, seconds: float) -> bool:
    end = history.get(pod.uid)
    return end is not None and time - end.at < seconds


def _soon(pod: Pod) -> bool:
    """Both times are of the same node's clock."""
    return pod.started is None or pod.ended is None or pod.ended - pod.started < SOON
