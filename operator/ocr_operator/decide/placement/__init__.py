"""Which node and which GPU a gated pod gets, as a pure decision with its reasons.

    reservations = placement.reserved(pods, needs, states)      # rebuilt from the pods
    match placement.choose(placement.request(resource, pod), nodes, readings, reservations, now, policy):
        case NoFit() as nofit: ...                              # goes into the condition
        case Placement() as placed: await patch(placement.patch(pod, placed, live.to_json(), now))

docs/placement.md has the rules and a worked example. The modules, in the order of a decision:

- `types`: requests, reservations, decisions.
- `reservations`: what each pod is promised, read back from the pods.
- `nodes`: whether a pod may go to a node at all.
- `load`: what a GPU carries.
- `candidates`: the GPUs or nodes that may be chosen, and whether they fit.
- `policies`: which of them is taken.
- `choose`: the decision.
- `messages`: its sentences.
- `patch`: the decision as a JSON patch.
- `patience`: when a pod that fits nowhere is left to the scheduler.
- `unschedulable`: when a placed pod is replaced.
- `verify`: whether a pod got the GPU that it was promised.
"""

from ocr_operator.decide.placement.choose import choose
from ocr_operator.decide.placement.patch import patch, stamp
from ocr_operator.decide.placement.patience import give_up
from ocr_operator.decide.placement.policies import POLICIES, PlacementPolicy
from ocr_operator.decide.placement.reservations import merge, reserved
from ocr_operator.decide.placement.types import (
    Basis,
    Gpu,
    NoFit,
    NoFitReason,
    Placement,
    Request,
    Reservation,
    RunnerUp,
    request,
)

__all__ = [
    "POLICIES",
    "Basis",
    "Gpu",
    "NoFit",
    "NoFitReason",
    "Placement",
    "PlacementPolicy",
    "Request",
    "Reservation",
    "RunnerUp",
    "choose",
    "give_up",
    "merge",
    "patch",
    "request",
    "reserved",
    "stamp",
]
