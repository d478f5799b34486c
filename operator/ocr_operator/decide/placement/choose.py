"""The choice with all that is known given at once."""

from collections.abc import Callable, Iterable
from datetime import datetime

from ocr_operator.decide.placement import policies, predicates
from ocr_operator.decide.placement.index import NodeIndex
from ocr_operator.decide.placement.policies import PlacementPolicy
from ocr_operator.decide.placement.predicates import Usage
from ocr_operator.decide.placement.topology import Population
from ocr_operator.decide.placement.types import NoFit, Placement, Request, Reservation
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.resources.observed import Node


def choose(
    request: Request,
    nodes: Iterable[Node],
    gpus: Iterable[GpuReading],
    reservations: Iterable[Reservation],
    now: datetime,
    *,
    policy: PlacementPolicy = policies.DEFAULT,
    usage: Callable[[str], Usage] = predicates.unused,
    population: Population | None = None,
) -> Placement | NoFit:
    """Choose as `NodeIndex.choose` does; the order of the inputs is irrelevant. `usage` tells what all other pods take
    of a node, `population` which pods are where.
    """
    return NodeIndex.of(nodes, gpus, reservations, policy=policy, usage=usage).choose(
        request, now, population
    )
