"""What becomes of a pod that fits nowhere: it waits at its gate, but not for ever where waiting can't help.

A cluster autoscaler doesn't see gated pods. A pod that takes whole devices is safe in the scheduler's hands, which
hands out only what is free, so after a while it is left to them. A pod that is pinned by UUID isn't: nothing else keeps
reservations of shared memory.
"""

from datetime import datetime, timedelta
from typing import Final

from ocr_operator.decide.placement.types import Basis, NoFit, NoFitReason, Placement, Request
from ocr_operator.resources.observed import Pod

WAIT: Final = timedelta(minutes=2)

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


def give_up(request: Request, pod: Pod, nofit: NoFit, now: datetime) -> Placement | None:
    """The decision to leave the node to the scheduler; None while the pod goes on waiting."""
    if request.sharing not in ("exclusive", "claim") or nofit.reason not in _MORE_NODES_HELP:
        return None
    if pod.created is None or now - pod.created < WAIT:
        return None
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
        why=f"{nofit.message}; left to the scheduler after {WAIT // timedelta(minutes=1)} minutes, so that a cluster "
        "autoscaler sees the pod",
    )
