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
