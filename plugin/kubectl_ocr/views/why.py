"""`kubectl ocr why`: why a pod is on its GPU, or why it waits; the rest is in `turns`.

A pure function of what was read and of the time.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from kubectl_ocr import text
from kubectl_ocr.objects import sent
from kubectl_ocr.objects.cluster import Event
from kubectl_ocr.objects.part import ManagedFields
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.resource import Resource
from kubectl_ocr.text import Cell, Item
from kubectl_ocr.views import turns
from ocr_wire import names
from ocr_wire.checked import Invalid
from ocr_wire.placement import Record, RunnerUp

BASES: Final[Mapping[str, str]] = {
    "metrics": "metrics no older than a minute",
    "recentMetrics": "metrics of up to five minutes, and what was promised since",
    "allocation": "what is promised: there were no usable metrics",
    "scheduler": "nothing fitted for minutes: the scheduler picks the node as soon as there is one",
    "none": "no GPU was asked for",
}
WHOLE: Final[Mapping[str, str]] = {
    "exclusive": ", a GPU of its own that the device plugin picked",
    "claim": ", a GPU of its own by its ResourceClaim",
}
"""`spec.gpu.sharing` of pods that have a device as a whole."""


class Stuck(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    model: str
    since: datetime
    """When the worker was killed."""


class Why(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    namespace: str
    pod: str
    deployment: str
    placed: bool
    why: str
    """The operator's own sentence."""
    node: str = ""
    gpus: tuple[str, ...] = ()
    sharing: str = ""
    memory_bytes: int = 0
    score: float | None = None
    basis: str = ""
    data_age_seconds: float | None = None
    placed_at: datetime | None = None
    runners_up: tuple[RunnerUp, ...] = ()
    stuck: tuple[Stuck, ...] = ()
    """Models of the pod whose worker doesn't end."""
    requests: turns.Requests | None = None
    """None while it waits for its place."""
    models: tuple[turns.ModelReason, ...] = ()
    memory: tuple[turns.Turn, ...] = ()
    """What happened to the GPU memory of its models in the last hour, the last first."""


def why(pod: Pod, resource: Resource | None, events: Sequence[Event], now: datetime) -> Why:
    """Return why a pod and its models are where they are; `resource` is the pod's own, None where it can't be read,
    and `events` are those about it.
    """
    listed = turns.turns(pod, events)
    return msgspec.structs.replace(
        _placement(pod, resource),
        stuck=_stuck(pod, resource),
        requests=turns.requests(pod),
        models=turns.models(pod, resource, listed, now),
        memory=listed,
    )


def _placement(pod: Pod, resource: Resource | None) -> Why:
    found = sent.decision(pod)
    meta = pod.metadata
    if isinstance(found, Record) and not pod.gated:
        return Why(
            namespace=meta.namespace,
            pod=meta.name,
            deployment=pod.deployment,
            placed=True,
            why=text.clean(found.why) or "the operator recorded no reason",
            node=pod.spec.node_name or found.node,
            gpus=tuple(each.uuid for each in found.gpus),
            sharing=found.sharing,
            memory_bytes=found.memory_bytes or 0,
            score=found.score,
            basis=found.basis,
            data_age_seconds=found.data_age_seconds,
            placed_at=found.time,
            runners_up=found.runners_up[:16],
        )
    return Why(
        namespace=meta.namespace,
        pod=meta.name,
        deployment=pod.deployment,
        placed=not pod.gated,
        node=pod.spec.node_name,
        why=text.clean(_missing(pod, resource, found)),
    )


def _stuck(pod: Pod, resource: Resource | None) -> tuple[Stuck, ...]:
    return tuple(
        Stuck(model=text.clean(model.name, 63), since=model.stuck_since)
        for each in (resource.status.pods if resource is not None else ())
        if each.name == pod.metadata.name
        for model in each.models
        if model.stuck_since is not None
    )


def _missing(pod: Pod, resource: Resource | None, found: Record | Invalid | None) -> str:
    if pod.gated:
        condition = resource.condition("Placed") if resource is not None else None
        if condition is None:
            return "it waits for its GPU, and the operator hasn't said why: does it run, and watch this namespace?"
        return f"{condition.reason}: {condition.message}"
    if isinstance(found, Invalid):
        return f"{found.message}; {_author(pod)}"
    return (
        "there is no decision on the pod, so the scheduler chose the node: another than the operator removed its gate, "
        "or it never had one"
    )


def _author(pod: Pod) -> str:
    """Name the writer of the decision, which is no reason to suspect a person: versions may differ."""
    manager = next((each.manager for each in pod.metadata.managed_fields if _wrote(each)), "")
    if manager == names.OPERATOR_MANAGER:
        return "the operator wrote it: it may be newer than this plugin"
    if manager:
        return f"{manager} wrote it last, and not the operator"
    return "who wrote it isn't known: a newer operator, or another program"


def _wrote(by: ManagedFields) -> bool:
    found: Any = by.fields_v1
    for step in ("f:metadata", "f:annotations", f"f:{names.ANNOTATION_PLACEMENT}"):
        found = found.get(step) if isinstance(found, dict) else None
    return found is not None


def render(explained: Why, now: datetime, paint: text.Paint = text.plain) -> str:
    gpus = "".join(f", {each}" for each in explained.gpus)
    where = f"{explained.node or 'no node yet'}{WHOLE.get(explained.sharing, '')}{gpus}"
    state = f"is on {where}" if explained.placed else "waits for a GPU"
    lines = [
        paint(text.clean(f"{explained.namespace}/{explained.pod} {state}", 1600), text.BOLD),
        f"  {explained.why}",
    ]
    facts = [f"  {name:<10}{value}" for name, value in _facts(explained, now) if value]
    stuck = [
        paint(f"  ! the worker of {each.model} was killed {_ago(each.since, now)} and hasn't ended", text.BAD)
        for each in explained.stuck
    ]
    there = turns.render(explained.requests, explained.models, explained.memory, now, paint)
    return "\n".join([*lines, *facts, *stuck, *_runners_up(explained.runners_up, paint), *there])


def _ago(at: datetime, now: datetime) -> str:
    return f"{text.duration((now - at).total_seconds())} ago"


def _facts(explained: Why, now: datetime) -> Sequence[tuple[str, str]]:
    ago = "" if explained.placed_at is None else _ago(explained.placed_at, now)
    age = (
        ""
        if explained.data_age_seconds is None
        else f", {text.duration(explained.data_age_seconds)} old at that time"
    )
    return (
        ("decided", ago),
        ("basis", text.clean(BASES.get(explained.basis, explained.basis), 200) + age),
        ("promised", text.size(explained.memory_bytes) if explained.memory_bytes else ""),
        (
            "score",
            ""
            if explained.score is None
            else f"{explained.score:.2f} (the share of the GPU that stays free)",
        ),
    )


def _runners_up(listed: Sequence[RunnerUp], paint: text.Paint) -> list[str]:
    if not listed:
        return []
    items = [
        Item(
            [
                text.clean(each.node, 253),
                text.clean(each.uuid, 128) or "-",
                Cell(f"{each.score:.2f}", text.DIM),
            ]
        )
        for each in listed
    ]
    table = text.table(("NODE", "GPU", "SCORE"), items, paint)
    return ["  runners-up", *(f"    {line}" for line in table.splitlines())]
