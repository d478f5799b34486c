"""Which node and which GPU a gated pod gets, as a pure decision with its reasons.

    books = placement.ledger(pods, needs, uses)             # rebuilt from the pods
    match placement.choose(placement.request(resource, pod), nodes, readings, books, now):
        case NoFit() as nofit: ...                          # goes into the condition
        case Placement() as spot: await patch(placement.patch(pod, spot, live.to_json(), now))

docs/placement.md has the rules and a worked example.
"""

from ocr_operator.decide.placement.choose import choose
from ocr_operator.decide.placement.patch import patch, stamp
from ocr_operator.decide.placement.patience import give_up
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
    "Basis",
    "Gpu",
    "NoFit",
    "NoFitReason",
    "Placement",
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
