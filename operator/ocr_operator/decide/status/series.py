"""What one resource is in numbers: the series of metrics that bear its name.

Of its status as it is stored, which a person may have edited, and of its pods as they are now.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from ocr_operator.decide.placement import reservations
from ocr_operator.decide.status.pods import LOCATIONS
from ocr_operator.metrics import Sample
from ocr_operator.resources.conditions import STATUSES
from ocr_operator.resources.observed import Pod
from ocr_operator.resources.reading import count, mapping, mappings, text
from ocr_wire.conditions import HEALTHY
from ocr_wire.state import PodState

_REPLICAS: Final = {"running": "replicas", "ready": "readyReplicas", "awake": "awakeReplicas"}
"""Value of the label `state` → field of the status."""


def series(
    body: Mapping[str, Any], pods: Iterable[Pod], states: Callable[[Pod], PodState | None]
) -> Iterator[Sample]:
    """Yield family, values of the labels after those of the resource, and value. The same families and labels for each
    resource, but for a condition, which has its status as a label: at most 17 series.
    """
    status = mapping(body, "status")
    for condition in mappings(status, "conditions"):
        kind, value = text(condition, "type"), text(condition, "status")
        if kind in HEALTHY and value in STATUSES:
            yield "condition", (kind, value), 1
    yield "replicas", ("wanted",), count(mapping(body, "spec"), "replicas", 1)
    for state, field in _REPLICAS.items():
        yield "replicas", (state,), count(status, field)
    locations = mapping(status, "locations")
    for location in LOCATIONS:
        yield "models", (location,), count(locations, location)
    promised, used = _gpu_memory(pods, states)
    yield "gpu_memory_bytes", ("promised",), promised
    yield "gpu_memory_bytes", ("used",), used
    yield "settings_revision", (), count(mapping(status, "liveSettings"), "revision")


def _gpu_memory(pods: Iterable[Pod], states: Callable[[Pod], PodState | None]) -> tuple[int, int]:
    """Return the bytes that placement counts for pods on GPUs named by UUID, and those that their models report."""
    promised = used = 0
    for pod in pods:
        if pod.finished:
            continue
        promised += sum(
            each.memory_bytes * len(each.uuids)
            for each in reservations.reserved([pod])
            if each.uuids and not each.resource
        )
        reported = states(pod)
        used += (reported.device.memory_used_bytes or 0) if reported is not None else 0
    return promised, used
