"""A decision out of the candidates that it was made from."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final

from ocr_operator.decide.placement import messages
from ocr_operator.decide.placement.candidate import Candidate
from ocr_operator.decide.placement.load import LIVE_SECONDS
from ocr_operator.decide.placement.policies import PlacementPolicy
from ocr_operator.decide.placement.predicates import Price
from ocr_operator.decide.placement.types import Basis, Placement, Request, Reservation, RunnerUp

RUNNERS_UP: Final = 3
ALTERNATIVES: Final = 7
"""A request of a ResourceClaim lists eight devices, of which it gets the first that is available."""
MAX_EXCLUDED: Final = 64
"""Nodes that a pod is kept from by name. Each is about 100 bytes of every pod, and of each pass of the scheduler."""


def holds(entry: Reservation, candidate: Candidate) -> bool:
    return entry.node == candidate.node and (candidate.gpu is None or candidate.gpu.uuid in entry.uuids)


def barred(found: Iterable[Candidate]) -> tuple[str, ...]:
    """Name the nodes, or GPUs, that can't work, though the scheduler would take them."""
    return tuple({each.gpu.uuid if each.gpu else each.node: None for each in found if each.barred})


def excluded(barred: Collection[str]) -> tuple[str, ...] | None:
    """List what can't work, though the scheduler would take it; None where a pod can't name so many."""
    return tuple(sorted(barred)) if len(barred) <= MAX_EXCLUDED else None


def placed(
    request: Request,
    best: Candidate,
    first: Sequence[Candidate],
    fitting: int,
    policy: PlacementPolicy,
    *,
    kept: bool,
) -> Placement:
    """Place the pod at `best`; `first` are the policy's first of the `fitting` that fit, `best` among them unless it is
    `kept` though others would come before it.
    """
    basis = Basis.ALLOCATION
    if best.age is not None:
        basis = Basis.METRICS if best.age <= LIVE_SECONDS else Basis.RECENT_METRICS
    rest = [each for each in first if each.name != best.name][:RUNNERS_UP]
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
        dear=best.price is not Price.NOTHING,
        basis=basis,
        data_age_seconds=best.age,
        data_source=best.source,
        runners_up=tuple(_runner_up(each) for each in rest),
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


def alternatives(best: Candidate, first: Callable[..., Sequence[Candidate]]) -> tuple[RunnerUp, ...]:
    """List the best of each other node, and then, where there are few nodes, other GPUs. `first` lists the first of a
    number of candidates, with `apart` those of different nodes.
    """
    found = [each for each in first(ALTERNATIVES + 1, apart=True) if each.node != best.node][:ALTERNATIVES]
    if len(found) < ALTERNATIVES and best.gpu is not None:
        names = {best.name, *(each.name for each in found)}
        found += [each for each in first(2 * (ALTERNATIVES + 1)) if each.name not in names]
    return tuple(_runner_up(each) for each in found[:ALTERNATIVES])


def in_a_hurry(placed: Placement, request: Request) -> Placement:
    """Return the placement of a pod that comes while there is much to do: it goes to the chosen node and nowhere else,
    and so needs no nomination, which is half of what placing it costs the API server.

    The same as it is where the scheduler knows something that placement doesn't, for it has refused a node to the
    resource already; and where others would end for the pod, which the scheduler avoids if it has the choice.
    """
    if request.sharing != "exclusive" or not placed.free or placed.dear or request.refused:
        return placed
    return replace(placed, excluded=None, alternatives=(), why=f"{placed.why}; {messages.HURRIED}")


def _runner_up(candidate: Candidate) -> RunnerUp:
    uuid = candidate.gpu.uuid if candidate.gpu else ""
    return RunnerUp(node=candidate.node, uuid=uuid, score=candidate.score)


def unpinned(request: Request) -> Placement:
    """Leave the node to the scheduler."""
    return Placement(
        pod=request.pod,
        uid=request.uid,
        deployment=request.deployment,
        sharing=request.sharing,
        node="",
        score=1.0,
        why="asks for no GPU: the scheduler picks the node",
    )
