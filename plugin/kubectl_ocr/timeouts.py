"""`kubectl ocr timeout`: the patch that changes a resource's idle timeouts, and what it leaves as it was. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from kubectl_ocr import text
from kubectl_ocr.objects import sent
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.resource import Resource
from ocr_wire import settings

FIELDS: Final = {
    each.field.removesuffix("AfterSeconds"): each.field for each in settings.LIVE if each.part == "idle"
}
"""What the options are called → what they are in the resource: offload, exit, release."""


def patch(resource: Resource, model: str, wanted: Mapping[str, float]) -> tuple[str, Any]:
    """Return (kind of patch, body) that sets `wanted` (offload, exit, release → seconds), of one model or of all.

    A list of models can't be merged, so one model's timeouts are replaced by position, and the API server refuses
    when another model is there by then.
    """
    values = {FIELDS[key]: value for key, value in wanted.items()}
    if not model:
        return "merge", {"spec": {"idle": values}}
    at, spec = next((at, each) for at, each in enumerate(resource.spec.models) if each.name == model)
    own = msgspec.to_builtins(spec.idle)
    path = f"/spec/models/{at}"
    return "json", [
        {"op": "test", "path": f"{path}/name", "value": model},
        {"op": "add", "path": f"{path}/idle", "value": own | values},
    ]


def differing(resource: Resource, pods: Sequence[Pod], model: str, wanted: Mapping[str, float]) -> list[str]:
    """Return a sentence for each model whose timeouts aren't `wanted`, though all pods work by the resource."""
    found = []
    pod = next((each for each in pods if each.ready), None)
    values = sent.sent_values(pod, [each.name for each in resource.spec.models])
    for spec in resource.spec.models:
        if model not in {"", spec.name}:
            continue
        runs, _ = sent.idle(resource, values, spec.name)
        now = msgspec.to_builtins(runs)
        own = msgspec.to_builtins(spec.idle)
        for key, value in wanted.items():
            field = FIELDS[key]
            if now.get(field, value) == value:
                continue
            why = (
                f"spec.models has its own: --model {spec.name} changes it"
                if not model and own.get(field) == now[field]
                else _stronger(resource, spec.name, f"idle.{field}")
            )
            found.append(f"{text.clean(spec.name, 63)} still has {key} {said(now[field])}: {why}")
    return found


def _stronger(resource: Resource, model: str, path: str) -> str:
    """Return what sets a live setting of a model, and the way out."""
    origins = {each.field: each.origin for each in resource.status.live_settings.sources}
    origin = origins.get(f"models[{model}].{path}") or origins.get(path, "")
    if origin == "override":
        return f"an override says so: kubectl ocr timeout {resource.metadata.name} --clear removes it"
    if "/" in origin:
        return f"{text.clean(origin, 128)} overrides the resource"
    return "something overrides the resource; its status says what"


def said(seconds: float) -> str:
    """Return a timeout in words, such as `after 30 s`."""
    return "never" if seconds < 0 else f"after {seconds:g} s" if seconds else "at once"
