"""What becomes of a pod that fits nowhere: it waits at its gate, but not for ever where waiting can't help.

A cluster autoscaler doesn't see gated pods. A pod that takes whole devices is safe in the scheduler's hands, which
hands out only what is free, so after a while it is left to them. A pod that is pinned by UUID isn't: nothing else keeps
reservations of shared memory.
"""

from datetime import datetime
from typing import Final

from ocr_operator.decide.placement import devices
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
        excluded=() if claims else nofit.excluded,
        barred=nofit.excluded if claims else (),
        why=f"{nofit.message}; left to the scheduler {_after(after_seconds)}, so that a cluster autoscaler sees the "
        "pod",
    )


def _after(seconds: int) -> str:
    return f"after {seconds} s" if seconds > 0 else "at once"
