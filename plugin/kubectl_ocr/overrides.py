"""`kubectl ocr timeout` beside GitOps: which manager declares a timeout, and the override written instead. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.objects.resource import Resource
from kubectl_ocr.timeouts import FIELDS
from ocr_wire import live_override, names
from ocr_wire.checked import Invalid
from ocr_wire.live_override import Override

FIELD_MANAGER: Final = "ocr-plugin"
"""Flux takes over what managers have written whose names begin with `kubectl`, and removes it:
https://fluxcd.io/flux/faq/#why-are-kubectl-edits-rolled-back-by-flux"""


def declared_by(resource: Resource, model: str, wanted: Mapping[str, float]) -> str:
    """Return the manager that will write one of the timeouts again, such as helm; empty where there is none.

    A manager that applies on the server's side meets a conflict once another one has changed the field; one that
    updates it and isn't a person's kubectl is a controller. `resource` has its managed fields.
    """
    place = ("f:models", f'k:{{"name":"{model}"}}', "f:idle") if model else ("f:idle",)
    for each in resource.metadata.managed_fields:
        if each.subresource or each.manager == FIELD_MANAGER:
            continue
        if each.operation != "Apply" and each.manager.startswith("kubectl"):
            continue
        fields: Any = each.fields_v1
        for step in ("f:spec", *place):
            fields = fields.get(step) if isinstance(fields, dict) else None
        if isinstance(fields, dict) and any(f"f:{FIELDS[key]}" in fields for key in wanted):
            return each.manager
    return ""


def text_on(resource: Resource) -> str | None:
    """Return the annotation of a resource as it is; None where there is none."""
    return resource.metadata.annotations.get(names.ANNOTATION_LIVE_OVERRIDE)


def changed(
    resource: Resource, model: str, wanted: Mapping[str, float], until: datetime | None, now: datetime
) -> Override:
    """Return the override with these timeouts, beside what the one on the resource says, if that still counts.

    The end is the new one for all of it. Raises `Failure` for a value that a resource can't have.
    """
    before = live_override.read(text_on(resource) or "")
    known = {each.name for each in resource.spec.models} | {""}
    ended = isinstance(before, Invalid) or (before.until is not None and before.until <= now)
    kept = {} if isinstance(before, Invalid) or ended else before.values
    values = {place: value for place, value in kept.items() if place[0] in known}
    values |= {(model, f"idle.{FIELDS[key]}"): value for key, value in wanted.items()}  # type: ignore[misc]
    override = Override(values=values, until=until)
    found = live_override.read(override.to_json())
    if isinstance(found, Invalid):
        raise Failure(f"refused: {found}", Exit.USAGE)
    return override


def patch(text: str | None) -> dict[str, Any]:
    """Return the merge patch that writes the annotation, or removes it (None)."""
    return {"metadata": {"annotations": {names.ANNOTATION_LIVE_OVERRIDE: text}}}


@dataclass(frozen=True, slots=True)
class Progress:
    """State of an override that was written, as the operator reports it."""

    done: bool
    why: str = ""
    """What is still missing."""


def progress(resource: Resource, text: str | None) -> Progress:
    """Return how far the operator is with this annotation (None: with its removal).

    Raises `Failure` when it refuses it, or another one has taken its place.
    """
    if text_on(resource) != text:
        raise Failure(
            "another override was written meanwhile, or this one has ended: run it again", Exit.LATER
        )
    live = resource.status.live_settings
    wanted = None if text is None else live_override.digest(text)
    seen = live.override.hash if live.override else None
    if seen != wanted:
        return Progress(False, "the operator hasn't taken it: does it run, and does it know overrides?")
    if live.override and live.override.rejected:
        raise Failure(f"the operator doesn't use it: {live.override.rejected}", Exit.FAILED)
    condition = resource.condition("ConfigApplied")
    if condition is not None and condition.status == "True":
        return Progress(True)
    return Progress(False, f"{condition.reason}: {condition.message}" if condition else "no condition yet")
