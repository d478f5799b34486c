"""Frozen views of what the API server returns: pods, nodes and the child Deployment.

Raw JSON comes in, only what decisions need goes on. Parsing is tolerant: an absent or oddly typed field reads
as "not there" (an object that can't be read must not stop the pass over all others), and bounded: strings are
cut, lists are capped.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from ocr_operator.resources import demand
from ocr_operator.resources.affinity import Spread, spread
from ocr_operator.resources.demand import NOTHING, Demand
from ocr_operator.resources.reading import count, mapping, mappings, strings, text
from ocr_operator.resources.sharing import alike, one
from ocr_wire import names

Key = tuple[str, str]
"""Namespace and name of an object."""

FINISHED: Final = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The controlling owner reference."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container's status; `terminated_*` is the present end, else that of the run before."""

    name: str
    ready: bool = False
    running: bool = False
    restarts: int = 0
    waiting_reason: str = ""
    waiting_message: str = ""
    terminated_reason: str = ""
    terminated_message: str = ""
    terminated_at: datetime | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True)
class Pod:
    """A pod as read. `affinity` and `annotations` stay as they are: the placement patch builds on them."""

    name: str
    namespace: str
    uid: str = ""
    resource_version: str = ""
    created: datetime | None = None
    terminating: bool = False
    deleted: datetime | None = None
    """When a pod that terminates has to be gone: the time of its deletion and the grace of it."""
    grace_seconds: int = 30
    owner: Owner | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] | None = None
    """None: the pod has no annotations map at all (a JSON patch must add it first)."""
    gates: tuple[str, ...] = ()
    node: str = ""
    """The node it is bound to; empty while unscheduled."""
    nominated: str = ""
    """The node that is kept for it, or tried first: by the scheduler, which ends others for it there, or by us."""
    phase: str = ""
    reason: str = ""
    """Why it ended, in a word of the kubelet's (`Evicted`); `message` has the rest."""
    message: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    """By its node's clock; None while it lives."""
    ip: str = ""
    ready: bool = False
    ready_since: datetime | None = None
    sandboxed: bool = False
    """Its volumes and its network are there; a kubelet before 1.29 doesn't say so."""
    unschedulable: str = ""
    """The scheduler's message while it finds no node for the ungated pod; empty otherwise."""
    containers: tuple[Container, ...] = ()
    """Init containers last."""
    demand: Demand = NOTHING
    """What the scheduler reserves for it on its node."""
    claims: tuple[str, ...] = ()
    """PersistentVolumeClaims of its volumes."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    affinity: Mapping[str, Any] | None = None
    spread: tuple[Spread, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def requests(self) -> Mapping[str, int]:
        """Return the extended resources that it asks for: those with a `/` in their name."""
        return {name: amount for name, amount in self.demand.amounts if "/" in name}

    @property
    def deployment(self) -> str:
        """The name of the resource it belongs to, by label; empty for a foreign pod."""
        return self.labels.get(names.LABEL_DEPLOYMENT, "")

    @property
    def gated(self) -> bool:
        """Waits for our placement; other people's gates don't count."""
        return names.GATE in self.gates

    @property
    def finished(self) -> bool:
        return self.phase in FINISHED

    @property
    def server(self) -> Container | None:
        """The container that serves, once its status is known."""
        return next((each for each in self.containers if each.name == names.CONTAINER), None)

    def annotation(self, name: str) -> str:
        return (self.annotations or {}).get(name, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    key: str
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    created: datetime | None = None
    ready: bool = False
    lost: bool = False
    """Kubernetes says that it isn't ready; of a node that is new it says nothing."""
    cordoned: bool = False
    taints: tuple[Taint, ...] = ()
    allocatable: Mapping[str, int] = field(default_factory=dict)
    """CPU in thousandths, else whole units; capacity where the node names no allocatable amount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The child Deployment's progress. `observed` is False until its controller has seen the newest spec."""

    wanted: int
    replicas: int
    updated: int
    observed: bool
    failed: str = ""
    """The message of a passed progress deadline or of replicas that can't be created; empty otherwise."""
    failed_reason: str = ""
    available: int = 0
    available_once: bool = False
    """Whether all pods of the newest template were ready at one time."""


NO_POD: Final = Pod(name="", namespace="")


def pod(raw: Mapping[str, Any], like: Pod = NO_POD) -> Pod:
    """Return the view of a pod. `like`: one that is much the same: what is equal of both is the same object then, which
    spares memory.
    """
    meta, spec, status = mapping(raw, "metadata"), mapping(raw, "spec"), mapping(raw, "status")
    ready = _condition(status, "Ready")
    scheduled = _condition(status, "PodScheduled")
    unschedulable = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    annotations = meta.get("annotations")
    affinity = spec.get("affinity")
    kinds = ("containerStatuses", "initContainerStatuses")
    containers = tuple(_container(each) for kind in kinds for each in mappings(status, kind))
    return Pod(
        name=text(meta, "name"),
        namespace=one(text(meta, "namespace"), like.namespace),
        uid=text(meta, "uid"),
        resource_version=text(meta, "resourceVersion"),
        created=one(time(meta.get("creationTimestamp")), like.created),
        terminating=meta.get("deletionTimestamp") is not None,
        deleted=time(meta.get("deletionTimestamp")),
        grace_seconds=count(spec, "terminationGracePeriodSeconds", 30),
        owner=one(owner_of(meta), like.owner),
        labels=alike(strings(meta.get("labels")), like.labels),
        annotations=alike(strings(annotations), like.annotations) if isinstance(annotations, dict) else None,
        gates=one(tuple(text(gate, "name") for gate in mappings(spec, "schedulingGates")), like.gates),
        node=one(text(spec, "nodeName"), like.node),
        nominated=text(status, "nominatedNodeName"),
        phase=one(text(status, "phase"), like.phase),
        reason=text(status, "reason"),
        message=text(status, "message"),
        started=one(time(status.get("startTime")), like.started),
        ended=_ended(status, containers) if status.get("phase") in FINISHED else None,
        ip=text(status, "podIP"),
        ready=ready.get("status") == "True",
        ready_since=one(time(ready.get("lastTransitionTime")), like.ready_since)
        if ready.get("status") == "True"
        else None,
        sandboxed=_condition(status, "PodReadyToStartContainers").get("status") == "True",
        unschedulable=(text(scheduled, "message") or "no node fits") if unschedulable else "",
        containers=one(containers, like.containers),
        demand=one(demand.of_pod(spec, status), like.demand),
        claims=one(tuple(_claims(spec, text(meta, "name"))), like.claims),
        node_selector=one(strings(spec.get("nodeSelector")), like.node_selector),
        tolerations=one(_tolerations(spec), like.tolerations),
        affinity=alike(affinity, like.affinity) if isinstance(affinity, dict) and affinity else None,
        spread=one(spread(spec), like.spread),
    )


def node(raw: Mapping[str, Any]) -> Node:
    meta, spec, status = mapping(raw, "metadata"), mapping(raw, "spec"), mapping(raw, "status")
    amounts = {**mapping(status, "capacity"), **mapping(status, "allocatable")}
    ready = text(_condition(status, "Ready"), "status")
    return Node(
        name=text(meta, "name"),
        labels=strings(meta.get("labels")),
        created=time(meta.get("creationTimestamp")),
        ready=ready == "True",
        lost=ready in ("False", "Unknown"),
        cordoned=spec.get("unschedulable") is True,
        taints=tuple(
            Taint(key=text(each, "key"), value=text(each, "value"), effect=text(each, "effect"))
            for each in mappings(spec, "taints")
        ),
        allocatable=demand.amounts(amounts),
    )


def rollout(raw: Mapping[str, Any]) -> Rollout:
    meta, spec, status = mapping(raw, "metadata"), mapping(raw, "spec"), mapping(raw, "status")
    progressing, failure = _condition(status, "Progressing"), _condition(status, "ReplicaFailure")
    broken = failure if failure.get("status") == "True" else progressing
    failed = broken is failure or progressing.get("status") == "False"
    return Rollout(
        wanted=count(spec, "replicas", 1),
        replicas=count(status, "replicas"),
        updated=count(status, "updatedReplicas"),
        observed=count(status, "observedGeneration") >= count(meta, "generation"),
        failed=(text(broken, "message") or "it doesn't say why") if failed else "",
        failed_reason=(text(broken, "reason") or "RolloutFailed") if failed else "",
        available=count(status, "availableReplicas"),
        available_once=text(progressing, "reason") == "NewReplicaSetAvailable",
    )


def namespace(raw: Mapping[str, Any]) -> Namespace:
    return Namespace(name=text(mapping(raw, "metadata"), "name"), labels=labels(raw))


def labels(raw: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of any object."""
    return strings(mapping(raw, "metadata").get("labels"))


def time(text: object) -> datetime | None:
    """An RFC 3339 time with a zone, in UTC; None for anything else."""
    if not isinstance(text, str) or len(text) > 64:
        return None
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else None
    except (ValueError, OverflowError):
        return None


def stamp(at: datetime) -> str:
    """`2026-11-23T08:00:00Z`, the precision of `metav1.Time`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _tolerations(spec: Mapping[str, Any]) -> tuple[Toleration, ...]:
    return tuple(
        Toleration(
            key=text(each, "key"),
            operator=text(each, "operator") or "Equal",
            value=text(each, "value"),
            effect=text(each, "effect"),
        )
        for each in mappings(spec, "tolerations")
    )


def _container(raw: Mapping[str, Any]) -> Container:
    state, last = mapping(raw, "state"), mapping(raw, "lastState")
    waiting = mapping(state, "waiting")
    ended = mapping(state, "terminated") or mapping(last, "terminated")
    code = ended.get("exitCode")
    return Container(
        name=text(raw, "name"),
        ready=raw.get("ready") is True,
        running=isinstance(state.get("running"), Mapping),
        restarts=count(raw, "restartCount"),
        waiting_reason=text(waiting, "reason"),
        waiting_message=text(waiting, "message"),
        terminated_reason=text(ended, "reason"),
        terminated_message=text(ended, "message"),
        terminated_at=time(ended.get("finishedAt")),
        exit_code=code
        if isinstance(code, int) and not isinstance(code, bool) and abs(code) < 2**31
        else None,
    )


def _ended(status: Mapping[str, Any], containers: Iterable[Container]) -> datetime | None:
    """Return the newest time in a pod's status: which one says when it ended depends on how it ended."""
    times = [time(status.get("startTime")), *(each.terminated_at for each in containers)]
    times += [time(each.get("lastTransitionTime")) for each in mappings(status, "conditions")]
    return max(filter(None, times), default=None)


def _claims(spec: Mapping[str, Any], pod: str) -> Iterable[str]:
    for each in mappings(spec, "volumes"):
        if name := text(mapping(each, "persistentVolumeClaim"), "claimName"):
            yield name
        elif "ephemeral" in each:
            yield f"{pod}-{text(each, 'name')}"


def owner_of(meta: Mapping[str, Any]) -> Owner | None:
    """Return the controlling owner that an object's metadata name."""
    for each in mappings(meta, "ownerReferences"):
        if each.get("controller") is True:
            return Owner(kind=text(each, "kind"), name=text(each, "name"), uid=text(each, "uid"))
    return None


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((each for each in mappings(status, "conditions") if each.get("type") == kind), {})
