"""A pod on a node, also of other people, as the scheduler's filters see it, and nothing else of it.

The many pods of a cluster share what is equal of them, so each costs little more than its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final
from weakref import WeakValueDictionary

from ocr_operator.resources import affinity, demand
from ocr_operator.resources.affinity import Term
from ocr_operator.resources.demand import NOTHING, Demand
from ocr_operator.resources.observed import Pod
from ocr_operator.resources.reading import mapping, mappings, strings, text


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Kin:
    """Kind of pod, as affinity and spread of others see it; the same object for pods that are alike."""

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    apart: tuple[Term, ...] = ()
    """Its own required anti-affinity, which also keeps others away."""


NOBODY: Final = Kin()


@dataclass(frozen=True, slots=True)
class Tenant:
    """Equal ones are interchangeable."""

    node: str
    """The node that it is on, or will be; empty: it isn't known."""
    demand: Demand
    kin: Kin = NOBODY
    kept: bool = False
    """It isn't there: the scheduler keeps the node for it, such as while others end there for it."""
    coming: bool = False
    """It isn't there: we have just placed it."""
    leaving: bool = False
    """It ends, and takes its place until it has."""


NOWHERE: Final = Tenant("", NOTHING)


class TenantReader:
    """Reads tenants so that those that are alike share their parts for as long as there is one."""

    def __init__(self) -> None:
        self._demands: WeakValueDictionary[Demand, Demand] = WeakValueDictionary()
        self._kin: WeakValueDictionary[bytes, Kin] = WeakValueDictionary()

    def read(self, raw: Mapping[str, Any]) -> Tenant:
        """Return a pod as a tenant; one that waits at a gate, or for any node, is nowhere."""
        meta, spec, status = mapping(raw, "metadata"), mapping(raw, "spec"), mapping(raw, "status")
        bound = text(spec, "nodeName")
        node = bound or ("" if mappings(spec, "schedulingGates") else text(status, "nominatedNodeName"))
        if not node:
            return NOWHERE
        return Tenant(
            node,
            self._shared(demand.of_pod(spec, status)),
            self.kin(text(meta, "namespace"), strings(meta.get("labels")), mapping(spec, "affinity")),
            kept=not bound,
            leaving=meta.get("deletionTimestamp") is not None,
        )

    def of(self, pod: Pod) -> Tenant:
        """Return a pod that was read already as `read` would; one that has ended is nowhere."""
        node = pod.node or ("" if pod.gates else pod.nominated)
        if not node or pod.finished:
            return NOWHERE
        kin = self.kin(pod.namespace, pod.labels, pod.affinity)
        return Tenant(node, self._shared(pod.demand), kin, kept=not pod.node, leaving=pod.terminating)

    def kin(self, namespace: str, labels: Mapping[str, str], wants: Mapping[str, Any] | None) -> Kin:
        key = blake2b(affinity.key(wants, namespace, labels), digest_size=16).digest()
        found = self._kin.get(key)
        if found is None:
            found = self._kin[key] = Kin(namespace, labels, affinity.apart(wants))
        return found

    def _shared(self, asked: Demand) -> Demand:
        return self._demands.setdefault(asked, asked)
