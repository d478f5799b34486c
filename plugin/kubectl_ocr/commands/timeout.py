"""`timeout`: change idle timeouts, and wait until every ready pod works by them."""

import time

import msgspec

from kubectl_ocr import text, timeouts
from kubectl_ocr.cli import Options
from kubectl_ocr.cluster import Cluster, model_of, warn
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.objects import Resource
from kubectl_ocr.output import emit
from ocr_wire import names


class Applied(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: str
    generation: int
    changed: bool
    pods: int
    """Ready pods that work by it."""
    seconds: float
    """From the patch until the operator said so."""


async def timeout(options: Options, cluster: Cluster) -> None:
    """Change idle timeouts. Raises `Failure` with the operator's reason when pods don't apply them in time."""
    resource = await cluster.resource(options.name)
    if options.model:
        model_of(resource, options.model)
    given = {"offload": options.offload, "exit": options.exit, "release": options.release}
    wanted = {key: value for key, value in given.items() if value is not None}

    began = time.monotonic()
    patched = await cluster.patch(resource, *timeouts.patch(resource, options.model, wanted))
    generation = patched.metadata.generation
    idle = not patched.status.ready_replicas
    if not idle:
        await _wait(options, cluster, patched)
    took = time.monotonic() - began

    what = ", ".join(f"{key} {timeouts.said(value)}" for key, value in wanted.items())
    where = f"{options.name}{f' ({options.model})' if options.model else ''}"
    changed = generation != resource.metadata.generation
    applied = Applied(
        name=options.name,
        generation=generation,
        changed=changed,
        pods=patched.status.ready_replicas,
        seconds=round(took, 3),
    )
    if idle:
        rendered = f"{where}: {what}; no pod is ready, those to come start with it"
    else:
        pods = f"{applied.pods} pod{'' if applied.pods == 1 else 's'}"
        lead = "" if changed else "was so already; "
        rendered = f"{where}: {what}; {lead}{pods} work by generation {generation} after {took:.2f} s"
    emit(applied, options.output, rendered)
    if not idle:
        for each in timeouts.differing(patched, await cluster.pods(options.name), options.model, wanted):
            warn(each)


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
