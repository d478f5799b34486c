"""What the operator wrote to a pod: its decisions, and the live settings that it sent."""

from collections.abc import Callable, Collection
from typing import TypeVar

from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.resource import Resource
from ocr_wire import live_settings, names, placement, routing
from ocr_wire.checked import Invalid
from ocr_wire.live_settings import IdleValues, LiveValues
from ocr_wire.placement import Record

T = TypeVar("T")


def decision(pod: Pod) -> Record | Invalid | None:
    """Return the operator's decision on the pod; None where there is no annotation."""
    return _annotation(pod, names.ANNOTATION_PLACEMENT, placement.read)


def awake_reason(pod: Pod) -> routing.Record | Invalid | None:
    """Return why the operator made the pod awake or asleep; None where there is no annotation."""
    return _annotation(pod, names.ANNOTATION_ROUTING, routing.read)


def _annotation(pod: Pod, name: str, read: Callable[[str], T | Invalid]) -> T | Invalid | None:
    text = pod.metadata.annotations.get(name)
    found = None if text is None else read(text)
    if isinstance(found, Invalid):
        return Invalid(f"annotation {name} of pod {pod.metadata.name} can't be read: {found}")
    return found


def sent_values(pod: Pod | None, models: Collection[str]) -> LiveValues:
    """Return the live settings that the operator sent to the pod for these models; empty where they can't be read."""
    text = "" if pod is None else pod.metadata.annotations.get(names.ANNOTATION_LIVE_SETTINGS, "")
    found = live_settings.parse(text, models)
    return LiveValues() if isinstance(found, Invalid) else found.values


def idle(resource: Resource, values: LiveValues, model: str) -> tuple[IdleValues, bool]:
    """Return the (timeouts, preload) that a model runs by: those that its pod got, else the resource's."""
    own = (values.models or {}).get(model)
    if own is not None:
        timeouts = live_settings.merged(own.idle or IdleValues(), values.idle or IdleValues())
        return timeouts, own.preload is True
    for each in resource.spec.models:
        if each.name == model:
            return live_settings.merged(each.idle, resource.spec.idle), each.preload
    return resource.spec.idle, False
