"""Pods whose kubelet doesn't get as far as their containers: it says why in Events only, such as of a Secret that isn't
there. The pod's status says `ContainerCreating`, as that of each pod does for a while.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from ocr_operator.resources import observed
from ocr_operator.resources.observed import Pod
from ocr_operator.resources.reading import mapping, text
from ocr_wire.text import clean

SLOW: Final = timedelta(seconds=20)
"""So long preparing a pod may take before its Events are read: volumes and the sandbox take a few seconds."""
RECENT: Final = timedelta(minutes=3)
"""An older warning is over: a kubelet repeats what fails after 2 minutes and 2 seconds at most."""
_PREPARING: Final = frozenset({"", "ContainerCreating", "PodInitializing"})


def since(pod: Pod) -> datetime | None:
    """Since when the kubelet prepares what the containers need; None while it doesn't."""
    if not pod.node or pod.sandboxed or pod.terminating or pod.finished:
        return None
    begun = any(
        each.running or each.restarts or each.waiting_reason not in _PREPARING for each in pod.containers
    )
    return None if begun else pod.started


def warning(events: Iterable[Mapping[str, Any]], now: datetime) -> str:
    """Return the newest of a pod's warnings that isn't over; empty where there is none."""
    found = [(at, event) for event in events if event.get("type") == "Warning" and (at := _time(event))]
    recent = [pair for pair in found if now - pair[0] < RECENT]
    if not recent:
        return ""
    _, event = max(recent, key=lambda pair: (pair[0], text(pair[1], "message")))
    return clean(f"{text(event, 'reason')}: {text(event, 'message')}")


def _time(event: Mapping[str, Any]) -> datetime | None:
    """Return when it was last: how an Event says so depends on its version."""
    said = (
        event.get("lastTimestamp"),
        mapping(event, "series").get("lastObservedTime"),
        event.get("eventTime"),
        mapping(event, "metadata").get("creationTimestamp"),
    )
    return max(filter(None, map(observed.time, said)), default=None)
