"""What becomes of a pod that fits nowhere: it waits at its gate, but not for ever where waiting can't help.

A cluster autoscaler doesn't see gated pods. A pod that takes whole devices is safe in the scheduler's hands, which
hands out only what is free, so after a while it is left to them. A pod that is pinned by UUID isn't: nothing else keeps
reservations of shared memory.
"""

from datetime import datetime
from typing import Final

from ocr_operator.decide.placement import decisions, devices
from ocr_operator.decide.placement.types import Basis, NoFit, NoFitReason, Placement, Request
from ocr_operator.resources.observed import Pod

NEVER: Final = -1
"""As the seconds to wait: such pods stay at their gates."""

_MORE_NODES_HELP: Final = frozenset(
    {
        NoFitReason.NO_NODES,
        NoFitReason.NO_ELIGIBLE_NODE,
        NoFitReason.NO_MATCHING_PRODUCT,
        NoFitReason.NO_GPUS,
        NoFitReason.INSUFFICIENT_GPUS,
    }
)
"""Not too little memory: the scheduler doesn't know of it, and would pick a GPU that is too small."""


def give_up(
    request: Request, pod: Pod, nofit: NoFit, now: datetime, *, after_seconds: int
) -> Placement | None:
    """The decision to leave the node to the scheduler, that long after the pod was made, 0 at once, `NEVER` never; None
    while the pod goes on waiting.
    """
    if after_seconds == NEVER:
        return None
    if request.sharing not in ("exclusive", "claim") or nofit.reason not in _MORE_NODES_HELP:
        return None
    if nofit.excluded is None or pod.created is None:
        return None
    if (now - pod.created).total_seconds() < after_seconds:
        return None
    why = f"{nofit.message}; left to the scheduler {_after(after_seconds)}, so that a cluster autoscaler sees the pod"
    return _left(request, nofit.excluded, why)


def without_nodes(request: Request) -> Placement | NoFit:
    """Return the decision of an operator that may not read nodes: the scheduler's, where it keeps the accounts itself.

    It knows nothing of the memory of a shared GPU, nor of its UUID.
    """
    if request.sharing == "none":
        return decisions.unpinned(request)
    if request.sharing == "shared":
        message = (
            "gpu.sharing: shared needs nodes, which this operator may not read (rbac.clusterWide: false of its chart): "
            "use exclusive, claim or none"
        )
        return NoFit(reason=NoFitReason.NODES_NOT_READ, message=message)
    return _left(request, (), "the operator may not read nodes: the scheduler picks one with a free device")


def _left(request: Request, excluded: tuple[str, ...], why: str) -> Placement:
    """Leave a pod that takes whole devices to the scheduler."""
    claims = request.sharing == "claim"
    return Placement(
        pod=request.pod,
        uid=request.uid,
        deployment=request.deployment,
        sharing=request.sharing,
        node="",
        memory_bytes=request.memory_bytes,
        resource=request.resource,
        count=request.count,
        basis=Basis.SCHEDULER,
        products=devices.spellings(request.products),
        product_label=devices.product_label(request.resource),
        excluded=() if claims else excluded,
        barred=excluded if claims else (),
        why=why,
    )


def _after(seconds: int) -> str:
    return f"after {seconds} s" if seconds > 0 else "at once"
