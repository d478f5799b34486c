"""Frozen views of what the API server returns: pods, nodes and the child Deployment.

Raw JSON comes in, only what decisions need goes on. Parsing is tolerant: an absent or oddly typed field reads
as "not there" (an object that can't be read must not stop the pass over all others), and bounded: strings are
cut, lists are capped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from ocr_wire import names, quantity

Key = tuple[str, str]
"""Namespace and name of an object."""

MAX_ITEMS: Final = 64
"""Containers, taints, tolerations and gates read of one object; the API server's own limits are near this."""
MAX_TEXT: Final = 1024
"""Messages of containers and of the scheduler are cut here."""
MAX_ENTRIES: Final = 1024
"""Labels and annotations read of one object."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod as read. `affinity` and `annotations` stay as they are: the placement patch builds on them."""

    name: str
    namespace: str
    uid: str = ""
    resource_version: str = ""
    created: datetime | None = None
    terminating: bool = False
    owner: Owner | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] | None = None
    """None: the pod has no annotations map at all (a JSON patch must add it first)."""
    gates: tuple[str, ...] = ()
    node: str = ""
    """The node it is bound to; empty while unscheduled."""
    phase: str = ""
    ip: str = ""
    ready: bool = False
    ready_since: datetime | None = None
    unschedulable: str = ""
    """The scheduler's message while it finds no node for the ungated pod; empty otherwise."""
    containers: tuple[Container, ...] = ()
    requests: Mapping[str, int] = field(default_factory=dict)
    """Extended resources (those with a `/` in their name), summed over the containers."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    affinity: Mapping[str, Any] | None = None

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def deployment(self) -> str:
        """The name of the resource it belongs to, by label; empty for a foreign pod."""
        return self.labels.get(names.LABEL_DEPLOYMENT, "")

    @property
    def gated(self) -> bool:
        """Waits for our placement (other people's gates don't count)."""
        return names.GATE in self.gates

    @property
    def finished(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

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
    cordoned: bool = False
    taints: tuple[Taint, ...] = ()
    allocatable: Mapping[str, int] = field(default_factory=dict)
    """Extended resources only; capacity where the node names no allocatable amount."""


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


def pod(raw: Mapping[str, Any]) -> Pod:
    meta, spec, status = _map(raw, "metadata"), _map(raw, "spec"), _map(raw, "status")
    ready = _condition(status, "Ready")
    scheduled = _condition(status, "PodScheduled")
    unschedulable = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    annotations = meta.get("annotations")
    affinity = spec.get("affinity")
    return Pod(
        name=_text(meta, "name"),
        namespace=_text(meta, "namespace"),
        uid=_text(meta, "uid"),
        resource_version=_text(meta, "resourceVersion"),
        created=time(meta.get("creationTimestamp")),
        terminating=meta.get("deletionTimestamp") is not None,
        owner=_owner(meta),
        labels=_strings(meta.get("labels")),
        annotations=_strings(annotations) if isinstance(annotations, Mapping) else None,
        gates=tuple(_text(gate, "name") for gate in _maps(spec, "schedulingGates")),
        node=_text(spec, "nodeName"),
        phase=_text(status, "phase"),
        ip=_text(status, "podIP"),
        ready=ready.get("status") == "True",
        ready_since=time(ready.get("lastTransitionTime")) if ready.get("status") == "True" else None,
        unschedulable=(_text(scheduled, "message") or "no node fits") if unschedulable else "",
        containers=tuple(_container(each) for each in _maps(status, "containerStatuses")),
        requests=_requests(spec),
        node_selector=_strings(spec.get("nodeSelector")),
        tolerations=tuple(
            Toleration(
                key=_text(each, "key"),
                operator=_text(each, "operator") or "Equal",
                value=_text(each, "value"),
                effect=_text(each, "effect"),
            )
            for each in _maps(spec, "tolerations")
        ),
        affinity=affinity if isinstance(affinity, Mapping) and affinity else None,
    )


def node(raw: Mapping[str, Any]) -> Node:
    meta, spec, status = _map(raw, "metadata"), _map(raw, "spec"), _map(raw, "status")
    amounts = {**_map(status, "capacity"), **_map(status, "allocatable")}
    return Node(
        name=_text(meta, "name"),
        labels=_strings(meta.get("labels")),
        created=time(meta.get("creationTimestamp")),
        ready=_condition(status, "Ready").get("status") == "True",
        cordoned=spec.get("unschedulable") is True,
        taints=tuple(
            Taint(key=_text(each, "key"), value=_text(each, "value"), effect=_text(each, "effect"))
            for each in _maps(spec, "taints")
        ),
        allocatable=_extended(amounts),
    )


def rollout(raw: Mapping[str, Any]) -> Rollout:
    meta, spec, status = _map(raw, "metadata"), _map(raw, "spec"), _map(raw, "status")
    progressing, failure = _condition(status, "Progressing"), _condition(status, "ReplicaFailure")
    broken = failure if failure.get("status") == "True" else progressing
    failed = broken is failure or progressing.get("status") == "False"
    return Rollout(
        wanted=_count(spec, "replicas", 1),
        replicas=_count(status, "replicas"),
        updated=_count(status, "updatedReplicas"),
        observed=_count(status, "observedGeneration") >= _count(meta, "generation"),
        failed=(_text(broken, "message") or "it doesn't say why") if failed else "",
        failed_reason=(_text(broken, "reason") or "RolloutFailed") if failed else "",
    )


def namespace(raw: Mapping[str, Any]) -> Namespace:
    return Namespace(name=_text(_map(raw, "metadata"), "name"), labels=labels(raw))


def labels(raw: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of any object."""
    return _strings(_map(raw, "metadata").get("labels"))


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


def _container(raw: Mapping[str, Any]) -> Container:
    state, last = _map(raw, "state"), _map(raw, "lastState")
    waiting = _map(state, "waiting")
    ended = _map(state, "terminated") or _map(last, "terminated")
    code = ended.get("exitCode")
    return Container(
        name=_text(raw, "name"),
        ready=raw.get("ready") is True,
        running=isinstance(state.get("running"), Mapping),
        restarts=_count(raw, "restartCount"),
        waiting_reason=_text(waiting, "reason"),
        waiting_message=_text(waiting, "message"),
        terminated_reason=_text(ended, "reason"),
        terminated_message=_text(ended, "message"),
        terminated_at=time(ended.get("finishedAt")),
        exit_code=code
        if isinstance(code, int) and not isinstance(code, bool) and abs(code) < 2**31
        else None,
    )


def _owner(meta: Mapping[str, Any]) -> Owner | None:
    for each in _maps(meta, "ownerReferences"):
        if each.get("controller") is True:
            return Owner(kind=_text(each, "kind"), name=_text(each, "name"), uid=_text(each, "uid"))
    return None


def _requests(spec: Mapping[str, Any]) -> dict[str, int]:
    """Return what the scheduler reserves: the sum over the containers. Limits stand in for absent requests, as the
    API server's own defaulting does for extended resources.
    """
    total: dict[str, int] = {}
    for each in _maps(spec, "containers"):
        resources = _map(each, "resources")
        for name, amount in _extended({**_map(resources, "limits"), **_map(resources, "requests")}).items():
            total[name] = total.get(name, 0) + amount
    return total


def _extended(amounts: Mapping[str, Any]) -> dict[str, int]:
    """Whole numbers of `vendor.example/device` resources; others are the scheduler's business alone."""
    found: dict[str, int] = {}
    for name, amount in list(amounts.items())[:MAX_ENTRIES]:
        number = quantity.parse(amount) if "/" in name else None
        if number is not None and 0 <= number < 2**31:
            found[name] = int(number)
    return found


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((each for each in _maps(status, "conditions") if each.get("type") == kind), {})


def _map(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, Mapping) else {}


def _maps(raw: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = raw.get(key)
    return (
        [each for each in value[:MAX_ITEMS] if isinstance(each, Mapping)] if isinstance(value, list) else []
    )


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _strings(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    pairs = list(value.items())[:MAX_ENTRIES]
    return {key: text for key, text in pairs if isinstance(key, str) and isinstance(text, str)}


def _count(raw: Mapping[str, Any], key: str, default: int = 0) -> int:
    value = raw.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default
