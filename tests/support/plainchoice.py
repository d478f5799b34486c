"""The choice of a GPU or node written down plainly: all candidates of all nodes, sorted. What is kept and looked at in
part must come to the same.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from ocr_operator.decide.placement import (
    NoFit,
    Placement,
    PlacementPolicy,
    Request,
    Reservation,
    RunnerUp,
    candidates,
    decisions,
    messages,
    predicates,
    topology,
)
from ocr_operator.decide.placement import nodes as eligible
from ocr_operator.decide.placement.candidate import Candidate, Place
from ocr_operator.decide.placement.load import loads
from ocr_operator.decide.placement.predicates import Price, Rules, Usage
from ocr_operator.decide.placement.topology import Population
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.resources.observed import Node


def choose(
    request: Request,
    nodes: Sequence[Node],
    gpus: Sequence[GpuReading],
    reservations: Sequence[Reservation],
    now: datetime,
    policy: PlacementPolicy,
    usage: Callable[[str], Usage],
    population: Population,
) -> Placement | NoFit:
    answer = _choose(request, nodes, gpus, reservations, now, policy, usage, None)
    rules = topology.rules(request, nodes, population)
    if rules is None or isinstance(answer, NoFit):
        return answer  # the pods around are no reason where nothing fits without them
    return _choose(request, nodes, gpus, reservations, now, policy, usage, rules)


def _choose(
    request: Request,
    nodes: Sequence[Node],
    gpus: Sequence[GpuReading],
    reservations: Sequence[Reservation],
    now: datetime,
    policy: PlacementPolicy,
    usage: Callable[[str], Usage],
    rules: Rules | None,
) -> Placement | NoFit:
    free = request.sharing == "exclusive" and not request.products
    obstacles, found, shut = Counter[str](), list[Candidate](), list[Candidate]()
    for node in nodes:
        why, price = eligible.obstacle(request, node), Price.NOTHING
        if why and why not in eligible.PASSING:
            obstacles[why] += 1
            continue
        if not why:
            why, price = predicates.lacks(request, node, usage(node.name), rules)
        here = [each for each in reservations if each.node == node.name and each.uid != request.uid]
        carried = loads(node, [each for each in gpus if each.node == node.name], here, now)
        offered = candidates.find(request, Place(node, usage(node.name), price), carried, here, now)
        if why:
            obstacles[why] += 1
            shut += offered if request.sharing != "shared" else []
        else:
            found += offered
    excluded = decisions.excluded(decisions.barred((*found, *shut)))
    fitting = sorted((each for each in found if each.fits), key=policy.order)
    if not fitting:
        found.sort(key=lambda each: (-each.rank, each.name))
        scarce = any(each.scarce for each in found)
        refusal = messages.nofit(request, len(nodes), obstacles, found[:3], len(found), scarce=scarce)
        return replace(refusal, excluded=excluded)
    mine = [each for each in reservations if each.uid == request.uid]
    held = [each for each in fitting if any(decisions.holds(entry, each) for entry in mine)]
    best = (held or fitting)[0]
    placed = decisions.placed(request, best, fitting[:4], len(fitting), policy, kept=bool(held))
    if free and excluded is not None and not (excluded and request.spread):
        return replace(placed, excluded=excluded)
    if request.sharing == "shared" or request.spread:
        return placed
    firsts = {each.node: each for each in reversed(fitting) if each.node != best.node}
    others = sorted(firsts.values(), key=policy.order)
    others += [each for each in fitting if each is not best and each not in others]
    return replace(
        placed,
        alternatives=tuple(
            RunnerUp(node=each.node, uuid=each.gpu.uuid if each.gpu else "", score=each.score)
            for each in others[:7]
        ),
    )
