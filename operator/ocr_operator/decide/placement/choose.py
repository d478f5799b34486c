"""The choice among the candidates of all eligible nodes."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from ocr_operator.decide.placement import candidates, messages, policies
from ocr_operator.decide.placement import nodes as eligible
from ocr_operator.decide.placement.candidates import Candidate
from ocr_operator.decide.placement.load import LIVE_SECONDS, loads
from ocr_operator.decide.placement.policies import PlacementPolicy
from ocr_operator.decide.placement.types import Basis, NoFit, Placement, Request, Reservation, RunnerUp
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.resources.observed import Node

RUNNERS_UP: Final = 3


def choose(
    request: Request,
    nodes: Iterable[Node],
    gpus: Iterable[GpuReading],
    reservations: Iterable[Reservation],
    now: datetime,
    *,
    policy: PlacementPolicy = policies.DEFAULT,
) -> Placement | NoFit:
    """Choose the GPU (shared) or node (exclusive) that fits and is the policy's first; the order of the inputs is
    irrelevant.

    A pod that already has a reservation keeps its place while it fits: a patch whose answer was lost must not
    move it, and the same question with the same inputs gets the same answer.
    """
    if request.sharing == "none":
        return _unpinned(request)
    every = sorted(nodes, key=lambda node: node.name)
    mine: list[Reservation] = []
    others: dict[str, list[Reservation]] = {}
    for entry in reservations:
        (mine if entry.uid == request.uid else others.setdefault(entry.node, [])).append(entry)
    obstacles = {node.name: eligible.obstacle(request, node) for node in every}
    open_nodes = [node for node in every if not obstacles[node.name]]
    found = _candidates(request, open_nodes, gpus, others, now)
    fitting = [each for each in found if each.fits]
    if not fitting:
        return messages.nofit(request, len(every), Counter(filter(None, obstacles.values())), found)
    first = heapq.nsmallest(RUNNERS_UP + 1, fitting, key=policy.order)
    held = (each for each in fitting if any(_holds(entry, each) for entry in mine))
    kept = min(held, key=policy.order, default=None) if mine else None
    return _placement(request, kept or first[0], first, len(fitting), policy, kept=kept is not None)


def _candidates(
    request: Request,
    nodes: Iterable[Node],
    gpus: Iterable[GpuReading],
    others: Mapping[str, Sequence[Reservation]],
    now: datetime,
) -> list[Candidate]:
    readings: dict[str, list[GpuReading]] = {}
    for reading in gpus:
        readings.setdefault(reading.node, []).append(reading)
    found: list[Candidate] = []
    for node in nodes:
        here = others.get(node.name, ())
        carried = loads(node, readings.get(node.name, ()), here, now)
        found.extend(candidates.find(request, node, carried, here, now))
    return found


def _holds(entry: Reservation, candidate: Candidate) -> bool:
    return entry.node == candidate.node and (candidate.gpu is None or candidate.gpu.uuid in entry.uuids)


def _placement(
    request: Request,
    best: Candidate,
    first: Sequence[Candidate],
    fitting: int,
    policy: PlacementPolicy,
    *,
    kept: bool,
) -> Placement:
    basis = Basis.ALLOCATION
    if best.age is not None:
        basis = Basis.METRICS if best.age <= LIVE_SECONDS else Basis.RECENT_METRICS
    rest = [each for each in first if each is not best][:RUNNERS_UP]
    return Placement(
        pod=request.pod,
        uid=request.uid,
        deployment=request.deployment,
        sharing=request.sharing,
        node=best.node,
        gpus=(best.gpu,) if best.gpu else (),
        memory_bytes=request.memory_bytes,
        on_demand=request.on_demand,
        resource=request.resource,
        count=request.count,
        score=best.score,
        basis=basis,
        data_age_seconds=best.age,
        data_source=best.source,
        runners_up=tuple(
            RunnerUp(node=each.node, uuid=each.gpu.uuid if each.gpu else "", score=each.score)
            for each in rest
        ),
        why=messages.why(
            best.name,
            request,
            superlative=policy.superlative,
            fitting=fitting,
            share=best.share,
            busy=best.busy,
            basis=basis,
            age=best.age,
            source=best.source,
            kept=kept,
            refused=best.refused,
        ),
    )


def _unpinned(request: Request) -> Placement:
    return Placement(
        pod=request.pod,
        uid=request.uid,
        deployment=request.deployment,
        sharing=request.sharing,
        node="",
        score=1.0,
        why="asks for no GPU: the scheduler picks the node",
    )
