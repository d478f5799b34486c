"""The sentences of a decision: for conditions, Events, annotations and logs."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from ocr_operator.decide.placement.types import Basis, NoFit, NoFitReason, Request

EXAMPLES: Final = 3
"""GPUs or nodes that a refusal names; the rest is an ellipsis, since 1,000 GPUs fit no condition."""
_SOURCES: Final = {
    "exporter": "metrics {} s old",
    "prometheus": "metrics of Prometheus {} s old",
    "pod": "as its own pods measured {} s ago",
}
_ORDER: Final = ("cordoned", "not ready", "tainted", "not selected by the pod", "of another product")


class Named(Protocol):
    """A candidate as a refusal names it."""

    @property
    def name(self) -> str: ...
    @property
    def free_text(self) -> Callable[[], str]: ...
    @property
    def rank(self) -> float: ...


def size(amount: int) -> str:
    """`12Gi`, `3.1Gi`, `300Mi`: two digits that matter, cut and never rounded up."""
    for unit, factor in (("Gi", 2**30), ("Mi", 2**20)):
        if amount >= factor:
            tenths = amount * 10 // factor
            return f"{tenths // 10}{unit}" if tenths % 10 == 0 else f"{tenths // 10}.{tenths % 10}{unit}"
    return "0" if amount == 0 else f"{amount} bytes"


def nofit(request: Request, nodes: int, obstacles: Mapping[str, int], refused: Iterable[Named]) -> NoFit:
    """Why nothing fits: the first of 1. no nodes  2. none eligible  3. no GPUs on those  4. no devices free or
    no room.
    """
    head = f"no GPU fits {size(request.memory_bytes)}" if request.memory_bytes else "no GPU is free"
    listed = sorted(refused, key=lambda each: (-each.rank, each.name))
    barred = "; ".join(
        f"{obstacles[kind]} {'node is' if obstacles[kind] == 1 else 'nodes are'} {kind}"
        for kind in _ORDER
        if obstacles.get(kind)
    )
    tail = f"; {barred}" if barred else ""
    if not nodes:
        return NoFit(reason=NoFitReason.NO_NODES, message=f"{head}: the cluster has no nodes")
    if sum(obstacles.values()) == nodes:
        other = obstacles.get("of another product") == nodes
        reason = NoFitReason.NO_MATCHING_PRODUCT if other else NoFitReason.NO_ELIGIBLE_NODE
        return NoFit(reason=reason, message=f"{head}: {barred}")
    if not listed:
        open_nodes = nodes - sum(obstacles.values())
        where = f"{open_nodes} open node{'' if open_nodes == 1 else 's'}"
        pinned = request.sharing in ("shared", "claim")
        what = "tells a GPU's UUID: does an exporter run there?" if pinned else f"has {request.resource}"
        return NoFit(reason=NoFitReason.NO_GPUS, message=f"{head}: none of {where} {what}{tail}")
    examples = ", ".join(f"{each.name}: {each.free_text()}" for each in listed[:EXAMPLES])
    more = ", …" if len(listed) > EXAMPLES else ""
    if request.sharing == "shared":
        return NoFit(
            reason=NoFitReason.INSUFFICIENT_MEMORY,
            message=f"{head}: 0 of {len(listed)} have room ({examples}{more}){tail}",
        )
    scarce = any(each.free_text().endswith((" taken", "held as a whole")) for each in listed)
    if request.sharing == "claim":
        return NoFit(
            reason=NoFitReason.INSUFFICIENT_GPUS if scarce else NoFitReason.INSUFFICIENT_MEMORY,
            message=f"{head}: 0 of {len(listed)} are free and large enough ({examples}{more}){tail}",
        )
    return NoFit(
        reason=NoFitReason.INSUFFICIENT_GPUS if scarce else NoFitReason.INSUFFICIENT_MEMORY,
        message=f"{head}: 0 of {len(listed)} node{'' if len(listed) == 1 else 's'} with {request.resource} "
        f"{'has' if len(listed) == 1 else 'have'} {request.count} free and large enough ({examples}{more}){tail}",
    )


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
    refused: bool,
) -> str:
    """One sentence for people, such as `gpu-b/GPU-2 is the least loaded of 6 that fit 12Gi: …`."""
    need = f"fit {size(request.memory_bytes)}" if request.memory_bytes else "are free"
    lead = f"{name} is the {superlative} of {fitting} that {need}"
    if kept:
        lead = f"{name} was promised before and still fits"
    elif fitting == 1:
        lead = f"{name} is the only one that {need.replace('fit', 'fits').replace('are', 'is')}"
    if refused:
        lead += ", though the scheduler turned a pod away from there minutes ago"
    turns = ", which takes turns with others on demand" if request.on_demand else ""
    carries = f"{share:.0%} of its memory promised or used with this pod{turns}"
    if basis is Basis.ALLOCATION:
        known = f"{carries}; " if share else ""
        return f"{lead}: {known}decided by allocation, since no metrics are younger than 5 minutes"
    return f"{lead}: {carries}, {busy:.0%} busy, {_SOURCES.get(source, 'metrics {} s old').format(age)}"
