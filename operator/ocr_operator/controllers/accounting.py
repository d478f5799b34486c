"""Placement's index, kept in step with what watches, pods and exporters say: the one owner of promises.

Whatever changes is noted here by the name or UID of what changed, and looked at when the next pod is placed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from ocr_operator.controllers.tenants import Tenants
from ocr_operator.decide import placement
from ocr_operator.decide.placement import (
    NodeIndex,
    NoFit,
    Placement,
    PlacementPolicy,
    Request,
    Reservation,
    lingering,
    overbooked,
    withdrawal,
)
from ocr_operator.decide.placement.withdrawal import Withdrawal
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.resources.observed import Node, Pod
from ocr_operator.resources.tenant import Tenant
from ocr_wire.state import PodState

States = Callable[[Pod], PodState | None]
"""Returns the state of a pod that can be heard."""


class Loads(Protocol):
    """The best readings of GPUs: `GpuSources`."""

    def hear(self, uid: str, pod: Pod | None, state: PodState | None) -> None: ...

    def settle(self, now: datetime) -> Mapping[str, Sequence[GpuReading]]: ...


class Accounting:
    """Promises to pods. Written by `choose`, `withdraw` and `release`, and by what changes."""

    def __init__(
        self,
        policy: PlacementPolicy,
        tenants: Tenants,
        *,
        needs: Mapping[str, int],
        namespace_labels: Callable[[str], Mapping[str, str]],
    ) -> None:
        """`needs`: resource → bytes that each of its pods needs, for pods that don't say."""
        self._policy = policy
        self._index = NodeIndex(policy)
        self._tenants = tenants
        self._needs = needs
        self._namespace_labels = namespace_labels
        self._pods: dict[str, Pod] = {}
        """By UID."""
        self._lingering: lingering.Lingering = {}
        self._promises: dict[str, Reservation] = {}
        """Pod UID → a promise whose patch is on its way."""
        self._reported: dict[str, tuple[Sequence[Reservation], Sequence[Tenant]]] = {}
        """Pod UID → what the index knows of it."""
        self._on: dict[str, set[str]] = {}
        """Node → UIDs of our pods that are there, or on their way."""
        self._nodes: dict[str, str] = {}
        """The other way round."""
        self._changed_pods: set[str] = set()
        self._changed_usage: set[str] = set()

    # What changes

    def node_changed(self, old: Node | None, new: Node | None) -> None:
        if (node := new or old) is not None:
            self._index.set_node(node.name, new)

    def pod_changed(self, old: Pod | None, new: Pod | None, now: datetime) -> None:
        if new is not None:
            self._pods[new.uid] = new
            self._changed_pods.add(new.uid)
        elif old is not None:
            self._pods.pop(old.uid, None)
            self._changed_pods.add(old.uid)
            self._lingering = lingering.add(self._lingering, old, now)

    def needs_changed(self, deployment: str, pods: Iterable[Pod]) -> None:
        """Look again at the pods of a resource, and at those that are gone and may still run."""
        self._changed_pods.update(pod.uid for pod in pods)
        self._changed_pods.update(
            uid for uid, (pod, _) in self._lingering.items() if pod.deployment == deployment
        )

    def state_changed(self, uid: str) -> None:
        if uid in self._pods:
            self._changed_pods.add(uid)

    def usage_changed(self, node: str) -> None:
        """Look again at a node where a pod came or went; one of ours is looked at because of its own change."""
        self._changed_usage.add(node)

    def namespace_changed(self) -> None:
        """Look again at what was refused: terms of affinity may mean namespaces by their labels."""
        self._index.forget_refusals()

    # What is asked

    def choose(self, request: Request, gpus: Loads, states: States, now: datetime) -> Placement | NoFit:
        """Choose and reserve in one step without an await: no other choice can come in between."""
        self._catch_up(gpus, states, now)
        choice = self._index.choose(request, now, self._tenants.population(self._namespace_labels))
        if isinstance(choice, Placement):
            self._promises[choice.uid] = choice.reservation(now)
            self._changed_pods.add(choice.uid)
        return choice

    def prepare(self, request: Request, gpus: Loads, states: States, now: datetime, limit: int) -> bool:
        """Look again at up to `limit` nodes that changed; returns whether none is left for `choose`."""
        self._catch_up(gpus, states, now)
        return self._index.prepare(request, now, limit)

    def withdraw(
        self,
        request: Request,
        gpus: Loads,
        states: States,
        now: datetime,
        replaceable: Callable[[Pod], bool],
    ) -> Withdrawal | None:
        """Choose which pods lose their promises to a pod that fits nowhere, and reserve what it then gets in one step,
        so that no other pod gets it meanwhile. None: nothing that is promised to `replaceable` pods helps.
        """
        self._catch_up(gpus, states, now)
        found = withdrawal.promises(
            request, self._pods.values(), lambda pod: self._reported.get(pod.uid, ((), ()))[0]
        )
        promises = [each for each in found if replaceable(each.pod)]
        if not promises:
            return None
        fitting = self._index.fitting(request, now, self._tenants.population(self._namespace_labels))
        decided = withdrawal.decide(request, promises, fitting, self._policy)
        if decided is not None:
            self._promises[request.uid] = decided.reservation(now)
            self._changed_pods.add(request.uid)
        return decided

    def late(self, pods: Iterable[Pod], gpus: Loads, states: States, now: datetime) -> Mapping[str, str]:
        """List those pods whose promise another operator made, too, and earlier: UID → why it is undone."""
        begin = {pod.uid: pod for pod in pods if overbooked.begins(pod)}
        if not begin:
            return {}
        self._catch_up(gpus, states, now)
        begin = {uid: pod for uid, pod in begin.items() if self._pinned(uid)}
        found: dict[str, str] = {}
        for node in {_node(pod) for pod in begin.values()}:
            there = [self._pods[uid] for uid in self._on.get(node, ()) if uid in self._pods]
            found |= overbooked.late(there, self._index.sizes(node), self._needs)
        return {uid: why for uid, why in found.items() if uid in begin}

    def _pinned(self, uid: str) -> bool:
        """Return whether a pod was promised memory of a GPU; devices are counted by the scheduler, too."""
        entries, _ = self._reported.get(uid, ((), ()))
        return any(not each.resource for each in entries)

    def release(self, uid: str) -> None:
        """Drop a promise whose patch was answered: from now on the pod itself carries it, or nothing does."""
        if self._promises.pop(uid, None) is not None:
            self._changed_pods.add(uid)

    def _catch_up(self, gpus: Loads, states: States, now: datetime) -> None:
        """Take what changed, each thing once: a fault of ours about one of them doesn't come with every choice."""
        left = lingering.current(self._lingering, now)
        self._changed_pods.update(self._lingering.keys() - left.keys())
        self._lingering = left
        while self._changed_usage:
            node = self._changed_usage.pop()
            self._index.set_usage(node, self._tenants.usage(node))
        while self._changed_pods:
            self._look_at(self._changed_pods.pop(), gpus, states)
        for node, readings in gpus.settle(now).items():
            self._index.set_readings(node, readings)

    def _look_at(self, uid: str, gpus: Loads, states: States) -> None:
        pod = self._pods.get(uid)
        state = states(pod) if pod is not None else None
        gpus.hear(uid, pod, state)
        gone = self._lingering[uid][0] if pod is None and uid in self._lingering else None
        entries = placement.reserved(
            [each for each in (pod or gone,) if each is not None],
            self._needs,
            {uid: state} if state is not None else {},
        )
        promise = self._promises.get(uid)
        if not entries and promise is not None:
            entries = (promise,)
        coming = self._coming(pod, promise) if pod is not None else ()
        self._note(uid, pod)
        if self._reported.get(uid, ((), ())) == (entries, coming):
            return
        self._index.reserve(uid, entries, coming)
        self._reported[uid] = entries, coming
        if not entries and not coming:
            del self._reported[uid]

    def _coming(self, pod: Pod, promise: Reservation | None) -> Sequence[Tenant]:
        """Return the pod as it will be on its node, if it is on its way there."""
        if pod.gated:
            node = promise.node if promise is not None else ""
        elif pod.finished or self._tenants.known(pod):
            node = ""
        else:
            node = _node(pod)
        return (self._tenants.coming(node, pod),) if node else ()

    def _note(self, uid: str, pod: Pod | None) -> None:
        """Keep on which node a pod is, or will be."""
        before, node = self._nodes.pop(uid, ""), _node(pod) if pod is not None else ""
        if before and before != node:
            self._on[before].discard(uid)
            if not self._on[before]:
                del self._on[before]
        if node:
            self._nodes[uid] = node
            self._on.setdefault(node, set()).add(uid)


def _node(pod: Pod) -> str:
    return pod.node or placement.record(pod).node
