"""Pods that are gone from the API server while their processes, and what these hold of a GPU, may still be there.

`kubectl delete --force` takes a pod's object away at once; its kubelet ends the processes all the same in the grace
that the pod has, or had left of an earlier deletion. A pod that is deleted the usual way goes last: its containers have
ended.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from ocr_operator.resources.observed import Pod

MARGIN: Final = timedelta(seconds=5)
"""Until the memory of a process that was killed is free, and for clocks that differ."""
LONGEST: Final = timedelta(minutes=10)
"""A longer grace than this keeps no GPU: any pod may have one of a year."""

Lingering = Mapping[str, tuple[Pod, datetime]]
"""Pod UID → the pod as it was last seen, and until when it counts."""


def add(known: Lingering, pod: Pod, now: datetime) -> Lingering:
    """Remember a pod that vanished, if processes of it may still run."""
    left = current(known, now)
    end = _until(pod, now)
    return {**left, pod.uid: (pod, end)} if end is not None else left


def current(known: Lingering, now: datetime) -> Lingering:
    """Return those that count at this moment."""
    return {uid: each for uid, each in known.items() if each[1] > now}


def _until(pod: Pod, now: datetime) -> datetime | None:
    if pod.finished or not pod.node or not any(each.running for each in pod.containers):
        return None
    end = pod.deleted or now + timedelta(seconds=min(pod.grace_seconds, LONGEST.total_seconds()))
    end = min(end, now + LONGEST) + MARGIN
    return end if end > now else None
