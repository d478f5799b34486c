"""Types of placement: requests, reservations, decisions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from ocr_operator.resources import affinity
from ocr_operator.resources.affinity import Spread, Term
from ocr_operator.resources.demand import NOTHING, Demand
from ocr_operator.resources.observed import Pod, Toleration
from ocr_operator.resources.spec import OcrDeployment, Sharing
from ocr_operator.resources.tenant import NOBODY, Kin
from ocr_wire import placement

CLAIMED: Final = "claim"
"""In the place of an extended resource's name: a device of the pod's own, by Dynamic Resource Allocation."""


class Basis(StrEnum):
    """Grounds of a decision, best first."""

    METRICS = "metrics"
    """Exporter data no older than a minute."""
    RECENT_METRICS = "recentMetrics"
    """Exporter data of up to five minutes, and what was placed since."""
    ALLOCATION = "allocation"
    """No usable data: only what the operator and the API server know to be promised."""
    SCHEDULER = "scheduler"
    """Nothing fitted for a while: the scheduler picks the node as soon as there is one."""
    NONE = "none"
    """No GPU was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    uuid: str
    product: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A promise to one pod; counted in full while the pod exists: an idle model may wake any time."""

    pod: str
    """`namespace/name`."""
    uid: str
    deployment: str
    """`namespace/name` of its resource; empty for a foreign pod."""
    node: str
    uuids: tuple[str, ...] = ()
    """The GPUs that it is promised or has; empty where the device plugin picks and doesn't report."""
    memory_bytes: int = 0
    """Per pinned GPU."""
    resource: str = ""
    """Extended resource, or `CLAIMED`; empty for a part of a pinned GPU."""
    count: int = 0
    """Devices taken from the node's `resource`."""
    placed: datetime | None = None
    """When the promise was made; a reading older than this doesn't show the pod yet. None: long ago."""
    up: bool = False
    """The pod is ready, so a reading younger than `placed` shows what it uses."""
    used_bytes: int | None = None
    """What its processes may hold right now, by its own state; None: unknown."""
    on_demand: bool = False
    """The memory isn't kept for the pod: others that are on demand may be promised it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The needs of one gated pod."""

    pod: str
    uid: str
    deployment: str
    sharing: Sharing
    memory_bytes: int = 0
    on_demand: bool = False
    resource: str = "nvidia.com/gpu"
    count: int = 1
    products: tuple[str, ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    affinity: Mapping[str, Any] | None = None
    demand: Demand = NOTHING
    """All that it asks of its node."""
    kin: Kin = NOBODY
    """What other pods know it by, with its anti-affinity."""
    near: tuple[Term, ...] = ()
    """Its required pod affinity."""
    spread: tuple[Spread, ...] = ()
    volumes: tuple[Mapping[str, Any], ...] = ()
    """Node selectors of its bound volumes, each of which must match."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Node → how often the scheduler turned a pod of the same resource away from it: those come last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerUp:
    node: str
    uuid: str
    """Empty where the device plugin picks."""
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A choice. `score` is the share of the GPU that stays free once the pod is there (1 best, 0 full)."""

    pod: str
    uid: str
    deployment: str
    sharing: Sharing
    node: str
    """Empty with `sharing: none`: the scheduler is free."""
    gpus: tuple[Gpu, ...] = ()
    """The pinned GPUs (`shared`, `claim`); empty where the device plugin picks one on the node."""
    memory_bytes: int = 0
    on_demand: bool = False
    resource: str = ""
    count: int = 0
    score: float = 0.0
    basis: Basis = Basis.NONE
    data_age_seconds: int | None = None
    data_source: str = ""
    """Source of the load (`exporter`, `prometheus`, `pod`); empty: none."""
    runners_up: tuple[RunnerUp, ...] = ()
    why: str = ""
    products: tuple[str, ...] = ()
    """Where the scheduler picks the node: values of the label `product_label`, one of which the node must have."""
    product_label: str = ""
    excluded: tuple[str, ...] | None = None
    """Nodes that can't work, though the scheduler doesn't know it: the pod prefers `node`, and may go anywhere but
    there. None: it goes to `node`, or where `alternatives` are, and nowhere else."""
    dear: bool = False
    """Others lose something for it, if it goes to `node`."""
    barred: tuple[str, ...] = ()
    """Where the scheduler picks the node of a claiming pod: GPUs that can't work."""
    alternatives: tuple[RunnerUp, ...] = ()
    """Other nodes that it may go to, with the GPU that it gets there, in the order in which they are preferred."""

    @property
    def free(self) -> bool:
        """Whether the scheduler may pick another node than `node`, which it tries first."""
        return bool(self.node) and (self.excluded is not None or bool(self.alternatives))

    @property
    def uuids(self) -> tuple[str, ...]:
        """The GPUs of which it gets one; empty where the device plugin picks."""
        each = (*(gpu.uuid for gpu in self.gpus), *(each.uuid for each in self.alternatives))
        return tuple(filter(None, each))

    def reservation(self, now: datetime) -> Reservation:
        """Return the reservation that holds from the moment the patch is sent."""
        return Reservation(
            pod=self.pod,
            uid=self.uid,
            deployment=self.deployment,
            node=self.node,
            uuids=tuple(gpu.uuid for gpu in self.gpus),
            memory_bytes=self.memory_bytes,
            resource=self.resource,
            count=self.count,
            placed=now,
            on_demand=self.on_demand,
        )

    def to_json(self, now: datetime) -> str:
        """The pod's `ocr-operator.io/placement` annotation; deterministic."""
        record = placement.Record(
            node=self.node,
            gpus=tuple(placement.Gpu(uuid=gpu.uuid, product=gpu.product) for gpu in self.gpus),
            sharing=self.sharing,
            memory_bytes=self.memory_bytes,
            placed_at=placement.at(now),
            basis=self.basis.value,
            score=self.score,
            data_age_seconds=self.data_age_seconds,
            data_source=self.data_source,
            runners_up=_written(self.runners_up),
            alternatives=_written(self.alternatives) or msgspec.UNSET,
            why=self.why,
            excluded=msgspec.UNSET if self.excluded is None else len(self.excluded) + len(self.barred),
        )
        return record.to_json()


def _written(found: tuple[RunnerUp, ...]) -> tuple[placement.RunnerUp, ...]:
    return tuple(placement.RunnerUp(node=each.node, uuid=each.uuid, score=each.score) for each in found)


class NoFitReason(StrEnum):
    NO_NODES = "NoNodes"
    """The cluster has no node at all."""
    NODES_NOT_READ = "NodesNotRead"
    """The operator has no right to read nodes, and what is asked for can't be placed without."""
    NO_ELIGIBLE_NODE = "NoEligibleNode"
    """All nodes are cordoned, not ready, tainted or not selected."""
    NO_MATCHING_PRODUCT = "NoMatchingProduct"
    NO_GPUS = "NoGpus"
    """No eligible node has the asked resource (or, shared, a GPU whose UUID is known)."""
    INSUFFICIENT_MEMORY = "InsufficientGpuMemory"
    INSUFFICIENT_GPUS = "InsufficientGpus"
    """Every device of the resource is taken."""
    BACK_OFF = "BackOff"
    """Pods that were placed before ended soon, one after the other: the next is placed a little later."""
    PATCH_REFUSED = "PatchRefused"
    """The API server doesn't take the patch that places the pod; the message is its own, or a webhook's."""
    CLAIM_REFUSED = "ClaimRefused"
    """The API server takes no ResourceClaim for the pod; the message is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoFit:
    """Nothing fits, and why: both go into the condition `Placed` word for word."""

    reason: NoFitReason
    message: str
    excluded: tuple[str, ...] | None = ()
    """Nodes, or for a claim GPUs, that can't work, though the scheduler doesn't know it; None: too many to name."""


def request(
    resource: OcrDeployment,
    pod: Pod,
    refused: Mapping[str, int] | None = None,
    volumes: tuple[Mapping[str, Any], ...] = (),
) -> Request:
    """Return what a pod of the resource needs: `shared` the sum of its models, `exclusive` and on demand the largest.

    On a shared GPU others count on what is left, so all that may be ready at once is reserved; a device that is one of
    several replicas of a GPU (`nvidia.com/gpu.shared`) is shared all the same. A pod with a GPU of its own only needs
    one that the largest model fits on: the server evicts among its own models. On demand it does so too, and others
    make way.
    """
    gpu, sizes = resource.spec.gpu, [int(model.gpu_memory or 0) for model in resource.spec.models]
    exclusive, on_demand = gpu.sharing == "exclusive", gpu.memory_policy == "onDemand"
    alone = gpu.sharing == "claim" or (exclusive and not gpu.resource_name.endswith(".shared"))
    taken = {"exclusive": gpu.resource_name, "claim": CLAIMED}.get(gpu.sharing, "")
    count = max(1, pod.requests.get(taken, 1)) if taken else 0
    return Request(
        pod=pod.key,
        uid=pod.uid,
        deployment=f"{resource.namespace}/{resource.name}",
        sharing=gpu.sharing,
        memory_bytes=max(sizes) if alone or on_demand else sum(sizes),
        on_demand=on_demand,
        resource=taken,
        count=count,
        products=gpu.products,
        node_selector=pod.node_selector,
        tolerations=pod.tolerations,
        affinity=pod.affinity,
        demand=pod.demand,
        kin=Kin(pod.namespace, pod.labels, affinity.apart(pod.affinity)),
        near=affinity.near(pod.affinity),
        spread=affinity.with_domains(pod.spread, resource.spec.template.spec),
        volumes=volumes,
        refused=refused or {},
    )
