"""`kubectl ocr why`: why a pod is on its GPU, or why it waits. A pure function of what was read and of the time."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from kubectl_ocr import objects, text
from kubectl_ocr.objects import Pod, Resource
from kubectl_ocr.text import Cell, Item
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


def why(pod: Pod, resource: Resource | None) -> Why:
    """Return why a pod is where it is; `resource` is the pod's own, None where it can't be read."""
    found = objects.decision(pod)
    meta = pod.metadata
    if isinstance(found, Record) and not pod.gated:
        return Why(
            namespace=meta.namespace,
            pod=meta.name,
            deployment=pod.deployment,
            placed=True,
            why=text.clean(found.why) or "the operator recorded no reason",
            node=found.node or pod.spec.node_name,
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


def _missing(pod: Pod, resource: Resource | None, found: Record | Invalid | None) -> str:
    if pod.gated:
        condition = resource.condition("Placed") if resource is not None else None
        if condition is None:
            return "it waits for its GPU, and the operator hasn't said why: does it run, and watch this namespace?"
        return f"{condition.reason}: {condition.message}"
    if isinstance(found, Invalid):
        return f"{found.message}; somebody changed it by hand"
    return "there is no decision on the pod: its gate was removed by hand, and the scheduler chose the node"


def render(explained: Why, now: datetime, paint: text.Paint = text.plain) -> str:
    gpus = "".join(f", {each}" for each in explained.gpus)
    where = f"{explained.node or 'no node yet'}{WHOLE.get(explained.sharing, '')}{gpus}"
    state = f"is on {where}" if explained.placed else "waits for a GPU"
    lines = [
        paint(text.clean(f"{explained.namespace}/{explained.pod} {state}", 1600), text.BOLD),
        f"  {explained.why}",
    ]
    facts = [f"  {name:<10}{value}" for name, value in _facts(explained, now) if value]
    return "\n".join([*lines, *facts, *_runners_up(explained.runners_up, paint)])


def _facts(explained: Why, now: datetime) -> Sequence[tuple[str, str]]:
    ago = "" if explained.placed_at is None else text.duration((now - explained.placed_at).total_seconds())
    age = (
        ""
        if explained.data_age_seconds is None
        else f", {text.duration(explained.data_age_seconds)} old at that time"
    )
    return (
        ("decided", ago and f"{ago} ago"),
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
