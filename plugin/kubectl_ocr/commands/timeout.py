"""`timeout`: change idle timeouts, and wait until every ready pod works by them.

In the resource's spec, or by a live override: where an end is given, and where another manager declares the field,
which would meet a conflict or write the old value back.
"""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from kubectl_ocr import overrides, text, timeouts
from kubectl_ocr.cli import Options
from kubectl_ocr.cluster import Cluster, model_of, warn
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.objects.resource import Resource
from kubectl_ocr.output import emit
from kubectl_ocr.overrides import FIELD_MANAGER
from ocr_wire import live_override, names

LOOK_SECONDS: Final = 0.1
"""Between two looks at the resource while an override is on its way; each of them starts a kubectl."""


class Applied(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: str
    generation: int
    changed: bool
    pods: int
    """Ready pods that work by it."""
    seconds: float
    """From the patch until the operator said so."""
    override: bool = False
    """Whether it is in the override, and not in the spec."""
    until: datetime | None = None
    declared_by: str = ""
    """The field manager that declares it in the spec, for whose sake it is in the override."""


async def timeout(options: Options, cluster: Cluster) -> None:
    """Change idle timeouts. Raises `Failure` with the operator's reason when pods don't apply them in time."""
    resource = await cluster.resource(options.name, "--show-managed-fields")
    if options.clear:
        await _clear(options, cluster, resource)
        return
    if options.model:
        model_of(resource, options.model)
    given = {"offload": options.offload, "exit": options.exit, "release": options.release}
    wanted = {key: value for key, value in given.items() if value is not None}
    declared_by = overrides.declared_by(resource, options.model, wanted)
    if options.lasts is None and not declared_by:
        await _in_spec(options, cluster, resource, wanted)
    else:
        await _in_override(options, cluster, resource, wanted, declared_by)


async def _in_spec(
    options: Options, cluster: Cluster, resource: Resource, wanted: Mapping[str, float]
) -> None:
    began = time.monotonic()
    kind, body = timeouts.patch(resource, options.model, wanted)
    patched = await cluster.patch(resource, kind, body, FIELD_MANAGER)
    if patched.status.ready_replicas:
        await _wait(options, cluster, patched)
    generation = patched.metadata.generation
    changed = generation != resource.metadata.generation
    applied = _applied(patched, began, changed=changed)
    lead = "" if changed else "was so already; "
    emit(
        applied, options.output, f"{_said(options, wanted)}; {lead}{_by(applied, f'generation {generation}')}"
    )
    if patched.status.ready_replicas:
        now = await cluster.resource(options.name)
        for each in timeouts.differing(now, await cluster.pods(options.name), options.model, wanted):
            warn(each)


async def _in_override(
    options: Options,
    cluster: Cluster,
    resource: Resource,
    wanted: Mapping[str, float],
    declared_by: str,
) -> None:
    now = datetime.now(UTC)
    until = None
    if options.lasts is not None:
        until = (now + timedelta(seconds=options.lasts + 1)).replace(microsecond=0)  # rounded up
    override = overrides.changed(resource, options.model, wanted, until, now)
    annotation = override.to_json()
    began = time.monotonic()
    patched = await cluster.patch(resource, "merge", overrides.patch(annotation), FIELD_MANAGER)
    after = await _settled(options, cluster, patched, annotation)
    changed = annotation != overrides.text_on(resource)
    applied = _applied(
        after, began, changed=changed, override=True, until=override.until, declared_by=declared_by
    )
    end = f"until {live_override.stamp(until)}" if until else "until it is cleared"
    others = len(override.values) - len(wanted)
    more = f", with {others} more from before" if others else ""
    what = f"{_said(options, wanted)} by an override {end}{more}"
    emit(
        applied, options.output, f"{what}; {_by(applied, f'revision {after.status.live_settings.revision}')}"
    )
    if declared_by and options.lasts is None:
        warn(
            f"{declared_by} declares this field of the spec, so it was left alone; "
            f"kubectl ocr timeout {options.name} --clear removes the override"
        )
    if after.status.ready_replicas:
        for each in timeouts.differing(after, await cluster.pods(options.name), options.model, wanted):
            warn(each)


async def _clear(options: Options, cluster: Cluster, resource: Resource) -> None:
    began = time.monotonic()
    was = overrides.text_on(resource) is not None
    if was:
        resource = await cluster.patch(resource, "merge", overrides.patch(None), FIELD_MANAGER)
        resource = await _settled(options, cluster, resource, None)
    applied = _applied(resource, began, changed=was)
    lead = "no override any more" if was else "there was no override"
    revision = f"revision {resource.status.live_settings.revision}"
    emit(applied, options.output, f"{options.name}: {lead}; {_by(applied, revision)}")


async def _settled(
    options: Options, cluster: Cluster, resource: Resource, annotation: str | None
) -> Resource:
    """Return the resource once the operator has taken the override and every ready pod works by it.

    An annotation is no change of generation, so no condition tells by itself: the status has the annotation's hash.
    """
    deadline = time.monotonic() + options.within
    while resource.status.ready_replicas:
        progress = overrides.progress(resource, annotation)
        if progress.done:
            break
        if time.monotonic() >= deadline:
            why = f"written, but not all pods work by it after {options.within:g} s: {progress.why}"
            raise Failure(text.clean(why), Exit.LATER)
        await asyncio.sleep(LOOK_SECONDS)
        resource = await cluster.resource(options.name)
    return resource


def _applied(
    resource: Resource,
    began: float,
    *,
    changed: bool,
    override: bool = False,
    until: datetime | None = None,
    declared_by: str = "",
) -> Applied:
    return Applied(
        name=resource.metadata.name,
        generation=resource.metadata.generation,
        changed=changed,
        pods=resource.status.ready_replicas,
        seconds=round(time.monotonic() - began, 3),
        override=override,
        until=until,
        declared_by=declared_by,
    )


def _said(options: Options, wanted: Mapping[str, float]) -> str:
    where = f"{options.name}{f' ({options.model})' if options.model else ''}"
    return f"{where}: {', '.join(f'{key} {timeouts.said(value)}' for key, value in wanted.items())}"


def _by(applied: Applied, what: str) -> str:
    if not applied.pods:
        return "no pod is ready, those to come start with it"
    pods = "1 pod works" if applied.pods == 1 else f"{applied.pods} pods work"
    return f"{pods} by {what} after {applied.seconds:.2f} s"


async def _wait(options: Options, cluster: Cluster, patched: Resource) -> None:
    """Wait by `kubectl wait`: it watches, and ignores a condition of an older generation."""
    meta = patched.metadata
    try:
        await cluster.kubectl.run(
            *("wait", f"{names.RESOURCE}/{meta.name}", "--for=condition=ConfigApplied"),
            *(f"--timeout={max(1, round(options.within))}s", f"--namespace={meta.namespace}"),
            seconds=options.within + 10,
        )
    except Failure as failure:
        if "timed out" not in str(failure):
            raise
        now = await cluster.resource(options.name)
        condition = now.condition("ConfigApplied")
        why = (
            f"{condition.reason}: {condition.message}"
            if condition
            else "the operator hasn't looked: does it run?"
        )
        raise Failure(
            text.clean(f"changed, but not all pods work by it after {options.within:g} s: {why}"), Exit.LATER
        ) from None
