"""Which node and which GPU a gated pod gets, as a pure decision with its reasons.

    reservations = placement.reserved(pods, needs, states)      # rebuilt from the pods
    match placement.choose(placement.request(resource, pod), nodes, readings, reservations, now, policy):
        case NoFit() as nofit: ...                              # goes into the condition
        case Placement() as placed: await patch(placement.patch(pod, placed, live.to_json(), now))

docs/placement.md has the rules and a worked example. The modules, in the order of a decision:

- `types`: requests, reservations, decisions.
- `reservations`: what each pod is promised, read back from the pods.
- `lingering`: pods that are gone from the API server only.
- `nodes`: whether a pod may go to a node at all.
- `predicates`: whether a node has what the pod asks for besides a GPU.
- `census`: which pods are where, by what others know them by.
- `topology`: what the pods around forbid: pod affinity, anti-affinity, topology spread.
- `devices`: what plugins and labels say of a node's GPUs.
- `load`: what a GPU carries.
- `candidate`: a GPU or node that may be chosen.
- `candidates`: those of a node, and whether they fit.
- `site`: a node with all that is known of it.
- `policies`: which of them is taken.
- `view`: the candidates of one kind of request, kept in the policy's order.
- `refusals`: what was answered where nothing fits, while nothing changes.
- `index`: what is known of every node, kept as it changes, and the choice.
- `choose`: the same, with all given at once.
- `decisions`: the decision out of the candidates it was made from.
- `messages`: its sentences.
- `patch`: the decision as a JSON patch.
- `patience`: when a pod that fits nowhere is left to the scheduler.
- `unschedulable`: when a placed pod is replaced.
- `overbooked`: which promises are undone where two operators gave away the same.
- `withdrawal`: which pods lose their promises to one of a higher priority.
- `failed`: what follows from pods that ended.
- `verify`: whether a pod got the GPU that it was promised.
"""

from ocr_operator.decide.placement.choose import choose
from ocr_operator.decide.placement.decisions import in_a_hurry
from ocr_operator.decide.placement.index import NodeIndex
from ocr_operator.decide.placement.patch import nominate, patch, stamp
from ocr_operator.decide.placement.patience import give_up, without_nodes
from ocr_operator.decide.placement.policies import POLICIES, PlacementPolicy
from ocr_operator.decide.placement.reservations import record, reserved
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
    "NodeIndex",
    "Placement",
    "PlacementPolicy",
    "Request",
    "Reservation",
    "RunnerUp",
    "choose",
    "give_up",
    "in_a_hurry",
    "nominate",
    "patch",
    "record",
    "request",
    "reserved",
    "stamp",
    "without_nodes",
]
