"""Frozen views of what the API server returns: pods, nodes and the child Deployment.

Raw JSON comes in, only what decisions need goes on. Parsing is tolerant: an absent or oddly typed field reads
as "not there" (an object that can't be read must not stop the pass over all others), and bounded: strings are
cut, lists are capped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ocr_operator import names


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
    """A pod as read. `affinity` and `annotations` are kept as they are: the placement patch builds on them."""

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
        """The name of the resource it belongs to, by label; empty for a stranger."""
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
class Rollout:
    """The child Deployment's progress. `observed` is False until its controller has seen the newest spec."""

    wanted: int
    replicas: int
    updated: int
    ready: int
    available: int
    observed: bool
    failed: str = ""
    """The message of a passed progress deadline or of replicas that can't be created; empty otherwise."""
    failed_reason: str = ""


def pod(raw: Mapping[str, Any]) -> Pod:
    raise NotImplementedError


def node(raw: Mapping[str, Any]) -> Node:
    raise NotImplementedError


def rollout(raw: Mapping[str, Any]) -> Rollout:
    raise NotImplementedError


def time(text: object) -> datetime | None:
    """An RFC 3339 time with a zone, in UTC; None for anything else."""
    raise NotImplementedError


def stamp(at: datetime) -> str:
    """`2026-11-23T08:00:00Z`, the precision of `metav1.Time`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
