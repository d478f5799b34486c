"""The sentences of a decision: for conditions, Events, annotations and logs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from ocr_operator.decide.placement.load import Load
from ocr_operator.decide.placement.types import Basis, NoFit, NoFitReason, Request

EXAMPLES: Final = 3
"""GPUs or nodes that a refusal names; the rest is an ellipsis, since 1,000 GPUs fit no condition."""
SCARCE: Final = (" taken", "held as a whole")
"""How the sentence about a GPU or node ends that others have."""
HURRIED: Final = "pinned, since the operator is behind"
_SOURCES: Final = {
    "exporter": "metrics {} s old",
    "prometheus": "metrics of Prometheus {} s old",
    "pod": "as its own pods measured {} s ago",
}
_ORDER: Final = (
    "cordoned",
    "not ready",
    "tainted",
    "not selected by the pod",
    "out of reach of its volumes",
    "of another product",
)
"""Of obstacles in a sentence; others follow by name."""


class Named(Protocol):
    """A candidate as a refusal names it."""

    @property
    def name(self) -> str: ...
    @property
    def free_text(self) -> Callable[[], str]: ...


def size(amount: int) -> str:
    """`12Gi`, `3.1Gi`, `300Mi`: two digits that matter, cut and never rounded up."""
    for unit, factor in (("Gi", 2**30), ("Mi", 2**20)):
        if amount >= factor:
            tenths = amount * 10 // factor
            return f"{tenths // 10}{unit}" if tenths % 10 == 0 else f"{tenths // 10}.{tenths % 10}{unit}"
    return "0" if amount == 0 else f"{amount} bytes"


def gpu_free(load: Load, left: int, taken: bool) -> str:
    if load.taken:
        return "held as a whole"
    if taken:
        return f"{load.tenants} pod{'' if load.tenants == 1 else 's'} on it, taken"
    return "size unknown" if load.total is None else f"{size(left)} free"


def devices_free(taken: int, capacity: int, free_bytes: int | None, free: bool) -> str:
    if free and free_bytes is not None:
        return f"{size(max(0, free_bytes))} free on a GPU"
    return f"{taken} of {capacity} taken"


def nofit(
    request: Request,
    nodes: int,
    obstacles: Mapping[str, int],
    examples: Sequence[Named],
    count: int,
    *,
    scarce: bool,
) -> NoFit:
    """Why nothing fits: the first of 1. no nodes  2. none eligible  3. no GPUs on those  4. no devices free or
    no room. `examples`: the first of the `count` that don't fit, by their rank and name; `scarce`: others have some of
    them.
    """
    head = f"no GPU fits {size(request.memory_bytes)}" if request.memory_bytes else "no GPU is free"
    barred = "; ".join(
        f"{obstacles[kind]} {'node is' if obstacles[kind] == 1 else 'nodes are'} {kind}"
        for kind in sorted(obstacles, key=_position)
    )
    tail = f"; {barred}" if barred else ""
    if not nodes:
        return NoFit(reason=NoFitReason.NO_NODES, message=f"{head}: the cluster has no nodes")
    if sum(obstacles.values()) == nodes:
        other = obstacles.get("of another product") == nodes
        reason = NoFitReason.NO_MATCHING_PRODUCT if other else NoFitReason.NO_ELIGIBLE_NODE
        return NoFit(reason=reason, message=f"{head}: {barred}")
    if not count:
        open_nodes = nodes - sum(obstacles.values())
        where = f"{open_nodes} open node{'' if open_nodes == 1 else 's'}"
        pinned = request.sharing in ("shared", "claim")
        what = "tells a GPU's UUID: does an exporter run there?" if pinned else f"has {request.resource}"
        return NoFit(reason=NoFitReason.NO_GPUS, message=f"{head}: none of {where} {what}{tail}")
    named = ", ".join(f"{each.name}: {each.free_text()}" for each in examples)
    more = ", …" if count > EXAMPLES else ""
    if request.sharing == "shared":
        return NoFit(
            reason=NoFitReason.INSUFFICIENT_MEMORY,
            message=f"{head}: 0 of {count} have room ({named}{more}){tail}",
        )
    if request.sharing == "claim":
        return NoFit(
            reason=NoFitReason.INSUFFICIENT_GPUS if scarce else NoFitReason.INSUFFICIENT_MEMORY,
            message=f"{head}: 0 of {count} are free and large enough ({named}{more}){tail}",
        )
    return NoFit(
        reason=NoFitReason.INSUFFICIENT_GPUS if scarce else NoFitReason.INSUFFICIENT_MEMORY,
        message=f"{head}: 0 of {count} node{'' if count == 1 else 's'} with {request.resource} "
        f"{'has' if count == 1 else 'have'} {request.count} free and large enough ({named}{more}){tail}",
    )


def _position(kind: str) -> tuple[int, str]:
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER), kind


def why(
    name: str,
    request: Request,
    *,
    superlative: str,
    fitting: int,
    share: float,
    busy: float,
    basis: Basis,
    age: int | None,
    source: str,
    kept: bool,
    refused: int,
) -> str:
    """One sentence for people, such as `gpu-b/GPU-2 is the least loaded of 6 that fit 12Gi: …`."""
    need = f"fit {size(request.memory_bytes)}" if request.memory_bytes else "are free"
    lead = f"{name} is the {superlative} of {fitting} that {need}"
    if kept:
        lead = f"{name} was promised before and still fits"
    elif fitting == 1:
        lead = f"{name} is the only one that {need.replace('fit', 'fits').replace('are', 'is')}"
    if refused:
        lead += ", though a pod was turned away from there before"
    turns = ", which takes turns with others on demand" if request.on_demand else ""
    carries = f"{share:.0%} of its memory promised or used with this pod{turns}"
    if basis is Basis.ALLOCATION:
        known = f"{carries}; " if share else ""
        return f"{lead}: {known}decided by allocation, since no metrics are younger than 5 minutes"
    return f"{lead}: {carries}, {busy:.0%} busy, {_SOURCES.get(source, 'metrics {} s old').format(age)}"
