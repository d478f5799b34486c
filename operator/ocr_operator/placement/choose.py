"""The choice itself."""

from collections.abc import Iterable
from datetime import datetime

from ocr_operator.dcgm import GpuReading
from ocr_operator.observed import Node
from ocr_operator.placement.types import NoFit, Placement, Request, Reservation


def choose(
    request: Request,
    nodes: Iterable[Node],
    gpus: Iterable[GpuReading],
    reservations: Iterable[Reservation],
    now: datetime,
) -> Placement | NoFit:
    """The least loaded GPU (shared) or node (exclusive) that fits; the order of the inputs is irrelevant."""
    raise NotImplementedError
