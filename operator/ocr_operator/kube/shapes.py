"""The few fields that are kept of objects of which there are many: the rest is skipped while it is decoded."""

from typing import Any

import msgspec


class _Shape(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, rename="camel"):
    """A part of an object; fields are spelled as the API server does."""


class _Metadata(_Shape, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, Any] | None = None
    deletion_timestamp: str | None = None


class _Resources(_Shape, frozen=True):
    requests: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None


class _Port(_Shape, frozen=True):
    host_port: int = 0
    host_ip: str = msgspec.field(default="", name="hostIP")
    protocol: str = ""


class _Container(_Shape, frozen=True):
    name: str = ""
    resources: _Resources | None = None
    ports: list[_Port] | None = None
    restart_policy: str = ""


class _AntiAffinity(_Shape, frozen=True):
    required: Any = msgspec.field(default=None, name="requiredDuringSchedulingIgnoredDuringExecution")


class _Affinity(_Shape, frozen=True):
    pod_anti_affinity: _AntiAffinity | None = None


class _Spec(_Shape, frozen=True):
    node_name: str = ""
    scheduling_gates: list[Any] | None = None
    affinity: _Affinity | None = None
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    overhead: dict[str, Any] | None = None
    resources: _Resources | None = None
    priority: int | None = None
    preemption_policy: str = ""


class _ContainerStatus(_Shape, frozen=True):
    name: str = ""
    resources: _Resources | None = None
    allocated_resources: dict[str, Any] | None = None


class _Condition(_Shape, frozen=True):
    type: str = ""
    reason: str | None = None


class _Status(_Shape, frozen=True):
    nominated_node_name: str = ""
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None
    resources: _Resources | None = None
    allocated_resources: dict[str, Any] | None = None
    conditions: list[_Condition] | None = None


class TenantShape(_Shape, frozen=True):
    """The fields that `resources.tenant` reads of a pod."""

    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class _Owner(_Shape, frozen=True):
    kind: Any = None
    name: Any = None
    uid: Any = None
    controller: Any = None


class _PodMetadata(_Shape, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: Any = None
    deletion_timestamp: Any = None
    labels: dict[str, Any] | None = None
    annotations: dict[str, Any] | None = None
    owner_references: list[_Owner] | None = None


class _Claim(_Shape, frozen=True):
    claim_name: Any = None


class _Empty(_Shape, frozen=True):
    """An object of which it only counts that it is there."""


class _Volume(_Shape, frozen=True):
    name: Any = None
    persistent_volume_claim: _Claim | None = None
    ephemeral: _Empty | None = None


class _Toleration(_Shape, frozen=True):
    key: Any = None
    operator: Any = None
    value: Any = None
    effect: Any = None


class _PodSpec(_Shape, frozen=True):
    node_name: Any = None
    termination_grace_period_seconds: Any = None
    scheduling_gates: list[Any] | None = None
    node_selector: dict[str, Any] | None = None
    tolerations: list[_Toleration] | None = None
    affinity: Any = None
    topology_spread_constraints: Any = None
    volumes: list[_Volume] | None = None
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    overhead: dict[str, Any] | None = None
    resources: _Resources | None = None
    priority: Any = None
    preemption_policy: Any = None


class _Waiting(_Shape, frozen=True):
    reason: Any = None
    message: Any = None


class _Terminated(_Shape, frozen=True):
    reason: Any = None
    message: Any = None
    finished_at: Any = None
    exit_code: Any = None


class _ContainerState(_Shape, frozen=True):
    waiting: _Waiting | None = None
    running: _Empty | None = None
    terminated: _Terminated | None = None


class _PodContainerStatus(_Shape, frozen=True):
    name: str = ""
    ready: Any = None
    restart_count: Any = None
    state: _ContainerState | None = None
    last_state: _ContainerState | None = None
    resources: _Resources | None = None
    allocated_resources: dict[str, Any] | None = None


class _PodCondition(_Shape, frozen=True):
    type: Any = None
    status: Any = None
    reason: Any = None
    message: Any = None
    last_transition_time: Any = None


class _PodStatus(_Shape, frozen=True):
    phase: Any = None
    reason: Any = None
    message: Any = None
    start_time: Any = None
    nominated_node_name: Any = None
    pod_ip: Any = msgspec.field(default=None, name="podIP")
    container_statuses: list[_PodContainerStatus] | None = None
    init_container_statuses: list[_PodContainerStatus] | None = None
    resources: _Resources | None = None
    allocated_resources: dict[str, Any] | None = None
    conditions: list[_PodCondition] | None = None


class PodShape(_Shape, frozen=True):
    """The fields that `resources.observed` reads of a pod."""

    metadata: _PodMetadata = msgspec.field(default_factory=_PodMetadata)
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)
