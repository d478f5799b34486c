"""Is a pod placed wherever plain Kubernetes would place it? Random clusters, with one pod each, and a scheduler of its
own reading of the API's objects: the oracle, which also knows what no operator can see.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from bench.filters import GIB, GPU, REQUIRED, Json, State, takes
from ocr_operator.decide import placement
from ocr_operator.decide.placement import NoFit, NoFitReason, Placement, Request, predicates, unschedulable
from ocr_operator.decide.placement.census import Census
from ocr_operator.decide.placement.predicates import Usage
from ocr_operator.decide.placement.topology import Population
from ocr_operator.decide.placement.types import CLAIMED
from ocr_operator.decide.placement.unschedulable import Unschedulable, UnschedulableHistory
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.resources import affinity, observed
from ocr_operator.resources.tenant import Kin, TenantReader
from ocr_wire import names

T0: Final = datetime(2026, 1, 1, tzinfo=UTC)
PRODUCT: Final = "nvidia.com/gpu.product"
PRODUCTS: Final = ("NVIDIA-L40S", "NVIDIA-A100")
KINDS: Final[dict[str, Literal["shared", "claim"]]] = {"shared": "shared", "claim": "claim"}
HOST: Final = "kubernetes.io/hostname"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One pod's way."""

    sharing: str
    """`products`: exclusive, for one product."""
    possible: bool
    """A node passes all filters of the scheduler, and has a GPU for the pod."""
    placed: bool
    works: bool
    """The GPU or node that it got has what it needs."""
    pinned: bool
    """It may go to one node only: shared, or spread over nodes."""
    replaced: int
    hidden: int
    """Nodes that pass for all that placement can see, and don't pass."""
    price: int | None
    """What its place cost pods of a lower priority, by `State.price`."""
    least: int | None
    """The least that one would have cost."""
    left: bool
    """It is left to the scheduler, which has no `minDomains` of it, and counts only nodes that it isn't kept from: by
    that it may have a place, or none.
    """

    @property
    def right(self) -> bool:
        """Whether it is placed where it has a place, and nowhere else."""
        expected = self.placed is self.possible or self.left
        return expected and self.works is self.placed

    @property
    def dear(self) -> bool:
        """Whether others lose more by it than they have to. A scheduler that picks the node knows of nothing between
        a free place and a pod's end.
        """
        if self.sharing == "shared":
            return self.price != self.least
        return self.price == 2 and self.least == 0


# A cluster


class Cluster:
    """Raw objects as the API server has them, and the GPUs as they are."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.nodes = [self._node(n) for n in range(dice.randint(1, 6))]
        self.pods: dict[str, list[Json]] = {each["metadata"]["name"]: [] for each in self.nodes}
        self.state = State(self.nodes, self.pods)
        for n in range(dice.randint(0, 14)):
            self._add(n)
        self.gpus = [gpu for each in self.nodes for gpu in self._gpus(each)]

    def _node(self, n: int) -> Json:
        dice = self.dice
        gpus, size = dice.choice([0, 1, 2, 2]), dice.choice([8, 24])
        allocatable = {
            "cpu": str(dice.choice([2, 4, 8])),
            "memory": f"{dice.choice([8, 16, 32])}Gi",
            "pods": str(dice.choice([2, 3, 110])),
        }
        labels = {"nvidia.com/gpu.memory": str(size * 1024), HOST: f"node-{n}"}
        labels |= {PRODUCT: dice.choice(PRODUCTS)}
        labels |= {"zone": dice.choice("ab")} if dice.random() < 0.9 else {}
        labels |= {"refused": "by a plugin of the scheduler's own"} if dice.random() < 0.1 else {}
        return {
            "metadata": {"name": f"node-{n}", "labels": labels},
            "spec": {
                "unschedulable": dice.random() < 0.1,
                "taints": [{"key": "gpu", "effect": "NoSchedule"}] if dice.random() < 0.2 else [],
            },
            "status": {
                "allocatable": allocatable | ({GPU: str(gpus)} if gpus else {}),
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }

    def _add(self, n: int) -> None:
        """Somebody else's pod, where it has room; some are resized, some end, for some others end."""
        dice = self.dice
        pod = self._pod(f"other-{n}", gpu=dice.random() < 0.25)
        pod["metadata"]["labels"]["app"] = dice.choice(["guard", "web", "ours"])
        pod["metadata"]["namespace"] = dice.choice(["default", "default", "elsewhere"])
        pod["spec"]["tolerations"] = [{"operator": "Exists"}]
        if dice.random() < 0.15:
            pod["spec"]["affinity"] = {"podAntiAffinity": {REQUIRED: [self._term()]}}
        fits = [each for each in self.nodes if self.state.passes(pod, each)]
        if not fits:
            return
        node = dice.choice(fits)["metadata"]["name"]
        if dice.random() < 0.15:
            pod["status"]["nominatedNodeName"] = node
        else:
            pod["spec"]["nodeName"] = node
            if dice.random() < 0.15:
                pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            if dice.random() < 0.15:
                has = {"resources": {"requests": {"cpu": dice.choice(["50m", "2"])}}}
                pod["status"]["containerStatuses"] = [{"name": "main", **has}]
        self.pods[node].append(pod)

    def _term(self) -> Json:
        dice = self.dice
        found = {
            "topologyKey": dice.choice([HOST, "zone"]),
            "labelSelector": {"matchLabels": {"app": dice.choice(["guard", "web", "ours"])}},
        }
        return found | ({"namespaces": ["elsewhere"]} if dice.random() < 0.2 else {})

    def _constraint(self) -> Json:
        dice = self.dice
        found = self._term() | {"whenUnsatisfiable": "DoNotSchedule", "maxSkew": dice.choice([1, 2])}
        found.pop("namespaces", None)
        return found | ({"minDomains": dice.choice([2, 3])} if dice.random() < 0.2 else {})

    def _pod(self, name: str, *, gpu: bool) -> Json:
        dice = self.dice
        asked = {"cpu": f"{dice.choice([100, 500, 1500])}m", "memory": f"{dice.choice([1, 3, 7])}Gi"}
        container: Json = {"name": "main", "resources": {"requests": asked | ({GPU: "1"} if gpu else {})}}
        if dice.random() < 0.25:
            container["ports"] = [{"hostPort": dice.choice([80, 81]), "protocol": "TCP"}]
        spec: Json = {
            "containers": [container],
            "priority": dice.choice([0, 0, 100]),
            "tolerations": [],
            "nodeSelector": {},
        }
        if dice.random() < 0.2:
            spec["initContainers"] = [{"resources": {"requests": {"cpu": dice.choice(["1", "3"])}}}]
        meta = {"name": name, "namespace": "default", "uid": name, "labels": {"app": "ours"}}
        return {"metadata": meta, "spec": spec, "status": {}}

    def _gpus(self, node: Json) -> list[GpuReading]:
        """Those that a device plugin gave away are held by their pods, as exporters say."""
        name, dice = node["metadata"]["name"], self.dice
        size = int(node["metadata"]["labels"]["nvidia.com/gpu.memory"]) * 2**20
        there = [each for each in self.pods[name] if "nodeName" in each["spec"] and takes(each)[GPU]]
        holders = [f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in there]
        found = []
        for k in range(int(node["status"]["allocatable"].get(GPU, "0"))):
            held = tuple(holders[k : k + 1])
            used = 0 if held else dice.choice([0, 0, size // 2, size])
            found.append(
                GpuReading(
                    node=name,
                    uuid=f"GPU-{name}-{k}",
                    memory_used_bytes=used,
                    memory_total_bytes=size,
                    read_at=T0,
                    holders=held,
                )
            )
        return found

    def asks(self, sharing: str) -> Json:
        dice = self.dice
        pod = self._pod("ours", gpu=sharing in ("exclusive", "products"))
        spec = pod["spec"]
        pod["metadata"]["annotations"] = {"a": "b"}
        spec["schedulingGates"] = [{"name": names.GATE}]
        spec["tolerations"] = [{"operator": "Exists"}] if dice.random() < 0.5 else []
        spec["nodeSelector"] = {"zone": "a"} if dice.random() < 0.2 else {}
        if dice.random() < 0.2:
            spec["preemptionPolicy"] = "Never"
        wants = {}
        for kind, share in (("podAntiAffinity", 0.4), ("podAffinity", 0.2)):
            if dice.random() < share:
                wants[kind] = {REQUIRED: [self._term() for _ in range(dice.choice([1, 1, 2]))]}
        spec |= {"affinity": wants} if wants else {}
        if dice.random() < 0.3:
            spec["topologySpreadConstraints"] = [self._constraint() for _ in range(dice.choice([1, 1, 2]))]
        return pod

    def serves(self, node: Json, sharing: str, need: int) -> bool:
        """The node has a GPU for the pod: one with room, or with devices to give away one that is large enough."""
        here = [each for each in self.gpus if each.node == node["metadata"]["name"]]
        if sharing in ("shared", "claim"):
            return any(fits(each, need) for each in here)
        if sharing == "products" and node["metadata"]["labels"][PRODUCT] != PRODUCTS[0]:
            return False
        return any((each.memory_total_bytes or 0) >= need for each in here)

    def gives(self, node: Json, placed: Placement) -> GpuReading | None:
        """Return the GPU that a pod gets there: the first of its list, as a claim has it, or any that nobody holds and
        that isn't barred.
        """
        here = [each for each in self.gpus if each.node == node["metadata"]["name"]]
        if uuids := placed.uuids:
            listed = [each for each in here if each.uuid in uuids]
            return min(listed, key=lambda each: uuids.index(each.uuid), default=None)
        left = [each for each in here if not each.holders and each.uuid not in placed.barred]
        return self.dice.choice(left) if left else None


def fits(gpu: GpuReading, need: int) -> bool:
    return not gpu.holders and (gpu.memory_used_bytes or 0) + need <= (gpu.memory_total_bytes or 0)


# Placement, and the scheduler after it


def play(dice: random.Random) -> Outcome:
    """One pod in one cluster: placed, scheduled or refused, replaced, and so on, as the operator does it."""
    cluster = Cluster(dice)
    sharing = dice.choice(["shared", "shared", "exclusive", "products", "claim"])
    raw, need = cluster.asks(sharing), dice.choice([4, 12]) * GIB
    if sharing in ("exclusive", "products"):
        cluster.gpus = [gpu if gpu.holders else _emptied(gpu) for gpu in cluster.gpus]
    works = [each for each in cluster.nodes if cluster.serves(each, sharing, need)]
    prices = [cluster.state.price(raw, each) for each in works if not _refused(each)]
    hidden = sum(_refused(each) and cluster.state.price(raw, each) is not None for each in works)
    history, replaced = UnschedulableHistory(), 0
    while True:
        answer = _choose(cluster, raw, sharing, need, history)
        node = None if answer is None else _schedule(cluster, raw, answer)
        if (
            answer is None
            or node is not None
            or answer.excluded is not None
            or not answer.node
            or replaced > 2 * len(cluster.nodes)
        ):
            break
        history, _ = _refuse(history, answer)
        replaced += 1
    right = node is not None and any(each is node for each in works)
    if node is not None and answer is not None and sharing in ("shared", "claim"):
        gpu = cluster.gives(node, answer)
        right = gpu is not None and fits(gpu, need)
    spread = "topologySpreadConstraints" in raw["spec"]
    left = answer is not None and not answer.node and spread
    pinned = sharing == "shared" or spread
    least = min((price for price in prices if price is not None), default=None)
    price = None if node is None else cluster.state.price(raw, node)
    return Outcome(
        sharing=sharing,
        possible=least is not None,
        placed=node is not None,
        works=right,
        pinned=pinned,
        replaced=replaced,
        hidden=hidden,
        price=price,
        least=least,
        left=left,
    )


def _refused(node: Json) -> bool:
    """A filter that only this scheduler has."""
    return "refused" in node["metadata"]["labels"]


def _emptied(gpu: GpuReading) -> GpuReading:
    return GpuReading(
        node=gpu.node,
        uuid=gpu.uuid,
        memory_used_bytes=0,
        memory_total_bytes=gpu.memory_total_bytes,
        read_at=gpu.read_at,
    )


def _choose(
    cluster: Cluster,
    raw: Json,
    sharing: str,
    need: int,
    history: UnschedulableHistory,
) -> Placement | None:
    pod = observed.pod(raw | {"metadata": raw["metadata"] | {"creationTimestamp": "2025-12-31T00:00:00Z"}})
    reader = TenantReader()
    taken = {
        name: predicates.usage(reader.read(each) for each in pods) for name, pods in cluster.pods.items()
    }
    request = Request(
        pod=pod.key,
        uid=pod.uid,
        deployment="default/ours",
        sharing=KINDS.get(sharing, "exclusive"),
        memory_bytes=need,
        resource={"shared": "", "claim": CLAIMED}.get(sharing, GPU),
        count=int(sharing != "shared"),
        products=PRODUCTS[:1] if sharing == "products" else (),
        node_selector=pod.node_selector,
        tolerations=pod.tolerations,
        affinity=pod.affinity,
        demand=pod.demand,
        kin=Kin(pod.namespace, pod.labels, affinity.apart(pod.affinity)),
        near=affinity.near(pod.affinity),
        spread=pod.spread,
        refused=unschedulable.refused(history),
    )
    answer = placement.choose(
        request,
        [observed.node(each) for each in cluster.nodes],
        cluster.gpus,
        [],
        T0 + timedelta(seconds=1),
        usage=taken.__getitem__,
        population=_population(taken.values()),
    )
    if isinstance(answer, NoFit):
        assert answer.reason in NoFitReason
        return placement.give_up(request, pod, answer, T0, after_seconds=120)
    return answer


def _population(taken: Iterable[Usage]) -> Population:
    census = Census()
    for each in taken:
        for tenant in each.tenants:
            census.add(tenant)
    return Population(census)


def _schedule(cluster: Cluster, raw: Json, placed: Placement) -> Json | None:
    """What the scheduler does with the pod after the patch: the nominated node, else any that passes, else one where
    it ends others.
    """
    pod = observed.pod(raw)
    wants = raw["spec"].get("affinity")
    for operation in placement.patch(pod, placed, "{}", T0):
        if operation["op"] == "add" and operation["path"] == "/spec/affinity":
            wants = operation["value"]
        if operation["op"] == "add" and operation["path"] == "/spec/affinity/nodeAffinity":
            wants = {**(wants or {}), "nodeAffinity": operation["value"]}
    patched = raw | {"spec": raw["spec"] | {"affinity": wants}}
    # The operator writes templates without it: placement keeps the number.
    listed = raw["spec"].get("topologySpreadConstraints") or ()
    kept = [{key: value for key, value in each.items() if key != "minDomains"} for each in listed]
    patched["spec"]["topologySpreadConstraints"] = kept
    open_ = [each for each in cluster.nodes if not _refused(each)]
    if placed.sharing == "claim":
        open_ = [each for each in open_ if cluster.gives(each, placed) is not None]
    free = [each for each in open_ if cluster.state.passes(patched, each)]
    if not free:
        free = [each for each in open_ if cluster.state.price(patched, each) is not None]
    nominated = [each for each in free if each["metadata"]["name"] == placed.node]
    return cluster.dice.choice(nominated or free) if free else None


def _refuse(history: UnschedulableHistory, placed: Placement) -> tuple[UnschedulableHistory, Any]:
    """The pod hangs for long enough to be replaced."""
    pod = observed.Pod(name="ours", namespace="default", uid="ours")
    others = tuple(each.node for each in placed.alternatives)
    hangs = [Unschedulable(pod, placed.node, lost=False, others=others)]
    history, _ = unschedulable.decide(history, hangs, 0.0, waits=True)
    return unschedulable.decide(history, hangs, 10_000.0, waits=True)
