"""What all pods take of their nodes, kept as they come and go instead of being added up for each choice.

Pods of resources are watched as a whole elsewhere, and come from there: a second watch of them would have the API
server encode each of their changes once more, and this process decode it.
"""

from collections.abc import Callable, Mapping
from typing import Final

from ocr_operator.decide.placement import predicates
from ocr_operator.decide.placement.census import Census
from ocr_operator.decide.placement.predicates import Usage
from ocr_operator.decide.placement.topology import Population
from ocr_operator.kube import api
from ocr_operator.kube.informer import Informer
from ocr_operator.resources.observed import Pod
from ocr_operator.resources.tenant import NOWHERE, Tenant, TenantReader
from ocr_wire import names

FOREIGN: Final = f"!{names.LABEL_DEPLOYMENT}"
"""The label selector of pods that aren't of resources."""


class Tenants:
    """Pods on nodes, in all namespaces that the operator sees. Of each only what a `Tenant` has is kept."""

    def __init__(
        self,
        kube: api.Kube,
        *,
        time: Callable[[], float],
        on_loss: Callable[[api.KubeError], None],
        namespaces: tuple[str, ...],
        on_change: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_change` is called with the name of a node where a pod came, went or changed. The informer is of pods that
        aren't of resources.
        """
        self._on_change = on_change
        self._reader = TenantReader()
        self.informer: Informer[Tenant] = Informer(
            kube, api.TENANT, self._reader.read, time=time, on_change=self._changed, on_loss=on_loss,
            group=lambda tenant: tenant.node, namespaces=namespaces, selector=FOREIGN,
        )  # fmt: skip
        self._own: dict[str, Tenant] = {}
        """UID → a pod of a resource that is on a node, or will be."""
        self._own_on: dict[str, dict[str, Tenant]] = {}
        """Node → the same of it."""
        self._usage: dict[str, Usage] = {}
        self._census = Census()

    def __len__(self) -> int:
        """Count the pods on nodes."""
        return len(self._census)

    def pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        """Take a change of a pod of a resource."""
        pod = new or old
        assert pod is not None
        after = self._reader.of(new) if new else NOWHERE
        before = self._own.pop(pod.uid, NOWHERE)
        if before.node:
            there = self._own_on[before.node]
            del there[pod.uid]
            if not there:
                del self._own_on[before.node]
        if after.node:
            self._own[pod.uid] = self._own_on.setdefault(after.node, {})[pod.uid] = after
        if before != after:
            self._changed(before, after)

    def population(self, namespace_labels: Callable[[str], Mapping[str, str]]) -> Population:
        """Return which pods are where, as long as none changes; without those on their way."""
        return Population(self._census, namespace_labels=namespace_labels)

    def coming(self, node: str, pod: Pod) -> Tenant:
        """Return a pod that is on its way to a node as it will be there."""
        return Tenant(
            node, pod.demand, self._reader.kin(pod.namespace, pod.labels, pod.affinity), coming=True
        )

    def known(self, pod: Pod) -> bool:
        """Return whether a pod of a resource counts on a node already."""
        return pod.uid in self._own

    def ending_for(self, pod: Pod) -> bool:
        """Return whether pods of a lower priority are about to leave the node that the scheduler keeps for the pod."""
        there = self.usage(pod.nominated).tenants if pod.nominated else ()
        return any(each.leaving and each.demand.priority < pod.demand.priority for each in there)

    def usage(self, node: str) -> Usage:
        """Return what the pods on a node take of it."""
        found = self._usage.get(node)
        if found is None:
            there = [*self.informer.of(node).values(), *self._own_on.get(node, {}).values()]
            found = self._usage[node] = predicates.usage(there)
        return found

    def _changed(self, old: Tenant | None, new: Tenant | None) -> None:
        if old is not None and old.node:
            self._usage.pop(old.node, None)
            self._census.remove(old)
        if new is not None and new.node:
            self._usage.pop(new.node, None)
            self._census.add(new)
        for node in {each.node for each in (old, new) if each is not None and each.node}:
            self._on_change(node)
