"""Pods as the plugin looks at them."""

from typing import Annotated

import msgspec

from kubectl_ocr.objects.part import Condition, Metadata, Part
from ocr_wire import names


class Gate(Part, frozen=True):
    name: str


class Port(Part, frozen=True):
    container_port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    name: str = ""


class Variable(Part, frozen=True):
    name: str
    value: str = ""


class Container(Part, frozen=True):
    name: str
    image: str = ""
    ports: list[Port] = msgspec.field(default_factory=list)
    env: list[Variable] = msgspec.field(default_factory=list)


class PodSpec(Part, frozen=True):
    node_name: str = ""
    scheduling_gates: list[Gate] = msgspec.field(default_factory=list)
    containers: list[Container] = msgspec.field(default_factory=list)


class _Waiting(Part, frozen=True):
    reason: str = ""
    message: str = ""


class _ContainerState(Part, frozen=True):
    waiting: _Waiting | None = None


class ContainerStatus(Part, frozen=True):
    name: str
    image_id: Annotated[str, msgspec.Meta(max_length=4096)] = msgspec.field(name="imageID", default="")
    """Digest of its image; empty until the node has it."""
    state: _ContainerState = _ContainerState()


class PodState(Part, frozen=True):
    phase: str = ""
    conditions: list[Condition] = msgspec.field(default_factory=list)
    container_statuses: list[ContainerStatus] = msgspec.field(default_factory=list)


class Pod(Part, frozen=True):
    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodState = PodState()

    @property
    def deployment(self) -> str:
        """The resource that it belongs to; empty for foreign pods."""
        return self.metadata.labels.get(names.LABEL_DEPLOYMENT, "")

    @property
    def ready(self) -> bool:
        """Whether it accepts requests."""
        is_ready = any((each.type, each.status) == ("Ready", "True") for each in self.status.conditions)
        return is_ready and self.metadata.deletion_timestamp is None

    @property
    def awake(self) -> bool:
        """Whether the Service sends requests to it under `warmFirst`."""
        return self.metadata.labels.get(names.LABEL_AWAKE) == names.AWAKE

    @property
    def gated(self) -> bool:
        return any(each.name == names.GATE for each in self.spec.scheduling_gates)

    def port(self, otherwise: int) -> int:
        """Return the port that its server listens on."""
        ports = [port for each in self.spec.containers if each.name == names.CONTAINER for port in each.ports]
        return next((port.container_port for port in ports if port.name == names.PORT_NAME), otherwise)
