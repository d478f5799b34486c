"""Which pods lose their promises of GPU memory to one of a higher priority that fits nowhere.

    promises = withdrawal.promises(request, pods)
    found = withdrawal.decide(request, promises, index.fitting(request, now), policy)

What is promised to a pod that isn't bound is used by nothing yet, so it counts against pods of no higher priority only,
as the scheduler's own promises of a place do. Promises are kept on the pods alone: to withdraw one is to replace its
pod, and the new one waits at its gate for another place.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from ocr_operator.decide.placement.candidate import Candidate
from ocr_operator.decide.placement.messages import size
from ocr_operator.decide.placement.policies import PlacementPolicy
from ocr_operator.decide.placement.reservations import reserved
from ocr_operator.decide.placement.types import Gpu, Request, Reservation
from ocr_operator.resources.observed import Pod

Fitting = Callable[[str, Collection[str]], Sequence[Candidate]]
"""Lists the candidates of a node that the pod fits once the pods of these UIDs have lost their reservations."""
Option = tuple[Candidate, Sequence[Pod]]
"""A GPU, and the pods that have to lose their promises."""

NODES: Final = 64
"""Nodes that are looked at, those with promises to the lowest priorities first: some ten milliseconds."""
NAMED: Final = 3
"""Pods that a sentence names."""


class Promise(NamedTuple):
    """GPU memory that is promised to a pod which isn't bound yet."""

    pod: Pod
    reservation: Reservation


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """Pods to replace, all of which have to go, and the GPU that the pod fits then."""

    request: Request
    node: str
    gpu: Gpu
    victims: tuple[Pod, ...]

    @property
    def why(self) -> str:
        """The sentence for the pod that gets the memory."""
        lost = [f"{each.key} (priority {each.demand.priority})" for each in self.victims[:NAMED]]
        if len(self.victims) > NAMED:
            lost.append(f"{len(self.victims) - NAMED} more")
        verb = "isn't" if len(self.victims) == 1 else "aren't"
        return f"{self._gets}, which was promised to {', '.join(lost)}, that {verb} bound yet"

    def why_of(self, victim: Pod) -> str:
        """The sentence for a pod that loses its promise."""
        return (
            f"{victim.key} (priority {victim.demand.priority}) isn't bound yet and is replaced: {self._gets}"
        )

    @property
    def _gets(self) -> str:
        asked = self.request
        memory = f"{size(asked.memory_bytes)} of {self.node}/{self.gpu.uuid}"
        return f"{asked.pod} (priority {asked.demand.priority}) takes {memory}"

    def reservation(self, now: datetime) -> Reservation:
        """Return what keeps the GPU for the pod until it is placed."""
        return Reservation(
            pod=self.request.pod,
            uid=self.request.uid,
            deployment=self.request.deployment,
            node=self.node,
            uuids=(self.gpu.uuid,),
            memory_bytes=self.request.memory_bytes,
            placed=now,
            on_demand=self.request.on_demand,
        )


def promises(
    request: Request,
    pods: Iterable[Pod],
    reservations: Callable[[Pod], Iterable[Reservation]] = lambda pod: reserved([pod]),
) -> Sequence[Promise]:
    """List the promises that count against pods of no higher priority only. `reservations`: those of a pod.

    Left alone are pods that another pod wouldn't follow, and those for which the scheduler ends others already: these
    would have ended for nothing.
    """
    if request.sharing != "shared":
        return ()
    lower = (each for each in pods if each.demand.priority < request.demand.priority)
    waiting = (each for each in lower if not (each.node or each.gated or each.terminating or each.finished))
    return [
        Promise(pod, entry)
        for pod in waiting
        if pod.owner is not None and not pod.nominated
        for entry in reservations(pod)
        if entry.deployment and len(entry.uuids) == 1 and not entry.resource
    ]


def decide(
    request: Request, promises: Iterable[Promise], fitting: Fitting, policy: PlacementPolicy
) -> Withdrawal | None:
    """Choose the GPU where the least is lost: no pod ends, the highest priority among the victims is the lowest, these
    are the fewest, then the policy's order. None where nothing helps.

    A node that the scheduler refused isn't taken in this way: it may refuse it again, and others would have lost their
    promises for nothing, time and again.
    """
    by_node: dict[str, list[Promise]] = {}
    for each in promises:
        by_node.setdefault(each.reservation.node, []).append(each)
    nodes = [name for name in by_node if not request.refused.get(name)]
    nodes.sort(key=lambda name: (min(each.pod.demand.priority for each in by_node[name]), name))
    options = [option for name in nodes[:NODES] for option in _options(name, by_node[name], fitting)]
    best, victims = min(options, key=partial(_loss, policy), default=(None, ()))
    if best is None or best.gpu is None:
        return None
    return Withdrawal(request=request, node=best.node, gpu=best.gpu, victims=tuple(victims))


def _loss(policy: PlacementPolicy, option: Option) -> tuple[object, ...]:
    """Return the place of an option in the order of what others lose by it."""
    candidate, victims = option
    priorities = sorted((each.demand.priority for each in victims), reverse=True)
    return candidate.price, priorities, policy.order(candidate)


def _options(node: str, there: Sequence[Promise], fitting: Fitting) -> Iterable[Option]:
    """List the GPUs of a node that the pod fits without promises, each with the pods that have to lose theirs.

    A GPU doesn't depend on what is promised of another, so all are looked at together, promise after promise.
    """
    possible = _by_gpu(fitting(node, _uids(each.pod for each in there)))
    if not possible:
        return ()
    queues = {
        uuid: sorted((each for each in there if uuid in each.reservation.uuids), key=_spared)
        for uuid in possible
    }
    victims = {uuid: [each.pod for each in queue] for uuid, queue in queues.items()}
    for turn in range(max(map(len, queues.values()))):
        rest = {
            uuid: [pod for pod in victims[uuid] if pod is not queue[turn].pod]
            for uuid, queue in queues.items()
            if turn < len(queue)
        }
        fits = _by_gpu(fitting(node, _uids(*rest.values())))
        victims |= {uuid: pods for uuid, pods in rest.items() if uuid in fits}
    found = _by_gpu(fitting(node, _uids(*victims.values())))
    return [(found[uuid], pods) for uuid, pods in victims.items() if pods and uuid in found]


def _spared(promise: Promise) -> tuple[int, int, str]:
    """Return its place in the order in which promises are spared where that is possible: the fewest of the highest
    priority are lost then, and the fewest of the next one.
    """
    return -promise.pod.demand.priority, promise.reservation.memory_bytes, promise.pod.key


def _uids(*pods: Iterable[Pod]) -> set[str]:
    return {each.uid for some in pods for each in some}


def _by_gpu(found: Iterable[Candidate]) -> dict[str, Candidate]:
    return {each.gpu.uuid: each for each in found if each.gpu is not None}
