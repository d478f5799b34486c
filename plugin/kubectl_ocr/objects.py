"""Kubernetes objects as kubectl prints them (JSON), parsed into what the plugin looks at.

A cluster may hold other versions of the definition and annotations edited by hand: unknown fields are ignored, an
object that can't be read is reported by its name, and the others are shown.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

from ocr_wire import checked, definitions, live_settings, names, numbers, placement, routing
from ocr_wire.checked import Invalid
from ocr_wire.live_settings import IdleValues, LiveValues
from ocr_wire.placement import Record
from ocr_wire.states import Location, State
from ocr_wire.text import Count, Counter, Time


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Part of an object; unknown fields are ignored."""


class ManagedFields(_Part, frozen=True):
    """Fields that one manager has written."""

    manager: str = ""
    operation: str = ""
    """`Apply`, or `Update` for every other way."""
    subresource: str = ""
    fields_v1: dict[str, Any] = {}


class Metadata(_Part, frozen=True):
    name: str
    namespace: str = ""
    generation: Counter = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    managed_fields: list[ManagedFields] = []
    """Only where they were asked for."""


class ModelSpec(_Part, frozen=True):
    name: str
    gpu_memory: str | int | None = None
    idle: IdleValues = IdleValues()
    preload: bool = False


class Server(_Part, frozen=True):
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = names.DEFAULT_PORT
    api_keys_secret_name: str = ""


class GpuSpec(_Part, frozen=True):
    sharing: str = "exclusive"
    resource_name: str = names.RESOURCE_GPU
    runtime_class_name: str = ""


class Spec(_Part, frozen=True):
    models: list[ModelSpec] = []
    idle: IdleValues = IdleValues()
    server: Server = Server()
    gpu: GpuSpec = GpuSpec()


class Gpu(_Part, frozen=True):
    uuid: str
    product: str = ""


class ModelStatus(_Part, frozen=True):
    name: str
    state: str = State.UNKNOWN
    location: str = Location.UNKNOWN
    idle_since: Time | None = None
    """When its last request ended; absent while requests run, and from operators that don't tell it."""
    oldest_lease_since: Time | None = None
    """When the oldest of the requests that run began, once that is long ago."""
    stuck_since: Time | None = None
    """When its worker was killed that hasn't ended."""


class PodStatus(_Part, frozen=True):
    name: str
    node: str = ""
    gpus: list[Gpu] = []
    device: str = ""
    ready: bool = False
    applied_generation: Counter | None = None
    models: list[ModelStatus] = []


class Condition(_Part, frozen=True):
    type: str
    status: str
    reason: str = ""
    message: str = ""
    observed_generation: Counter | None = None


class Source(msgspec.Struct, frozen=True, rename={"origin": "from"}):
    """Effective value of a live setting, and where it comes from."""

    field: str
    value: str = ""
    origin: str = ""


class LiveOverride(_Part, frozen=True):
    hash: str = ""
    until: Time | None = None
    rejected: str = ""


class LiveSettings(_Part, frozen=True):
    revision: Counter = 0
    sources: list[Source] = []
    override: LiveOverride | None = None


class Status(_Part, frozen=True):
    observed_generation: Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)] | None = None
    """Below 1 or None: the operator hasn't looked at it yet."""
    phase: str = ""
    replicas: Count = 0
    ready_replicas: Count = 0
    pods: list[PodStatus] = []
    live_settings: LiveSettings = LiveSettings()
    conditions: list[Condition] = []


class Resource(_Part, frozen=True):
    metadata: Metadata
    spec: Spec = Spec()
    status: Status = Status()

    def condition(self, type_: str) -> Condition | None:
        return next((each for each in self.status.conditions if each.type == type_), None)


class Gate(_Part, frozen=True):
    name: str


class Port(_Part, frozen=True):
    container_port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    name: str = ""


class Variable(_Part, frozen=True):
    name: str
    value: str = ""


class Container(_Part, frozen=True):
    name: str
    image: str = ""
    ports: list[Port] = []
    env: list[Variable] = []


class PodSpec(_Part, frozen=True):
    node_name: str = ""
    scheduling_gates: list[Gate] = []
    containers: list[Container] = []


class _Waiting(_Part, frozen=True):
    reason: str = ""
    message: str = ""


class _ContainerState(_Part, frozen=True):
    waiting: _Waiting | None = None


class ContainerStatus(_Part, frozen=True):
    name: str
    state: _ContainerState = _ContainerState()


class PodState(_Part, frozen=True):
    phase: str = ""
    conditions: list[Condition] = []
    container_statuses: list[ContainerStatus] = []


class Pod(_Part, frozen=True):
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


class Event(_Part, frozen=True):
    reason: str = ""
    message: str = ""
    first_timestamp: Time | None = None
    last_timestamp: Time | None = None

    @property
    def time(self) -> datetime | None:
        """Time at which it last happened."""
        return self.last_timestamp or self.first_timestamp


class _Amounts(_Part, frozen=True):
    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}


class Node(_Part, frozen=True):
    metadata: Metadata
    status: _Amounts = _Amounts()

    @property
    def gpus(self) -> int:
        """Number of GPUs that the node announces."""
        return _number(self.status.capacity.get(names.RESOURCE_GPU, ""))

    def usable(self, resource: str) -> int:
        """Return how many devices of a resource pods may have: a device plugin takes out what is broken."""
        return _number(self.status.allocatable.get(resource, ""))

    @property
    def product(self) -> str:
        return self.metadata.labels.get(names.LABEL_GPU_PRODUCT, "")

    @property
    def gpu_memory_bytes(self) -> int:
        """Memory of each of its GPUs; 0 where no label has it."""
        return _number(self.metadata.labels.get(names.LABEL_GPU_MEMORY, "")) * 2**20


class _Template(_Part, frozen=True):
    spec: PodSpec = PodSpec()


class _DeploymentSpec(_Part, frozen=True):
    replicas: Count = 1
    template: _Template = _Template()


class _DeploymentStatus(_Part, frozen=True):
    ready_replicas: Count = 0


class Deployment(_Part, frozen=True):
    """Deployment of apps/v1: the operator's."""

    metadata: Metadata
    spec: _DeploymentSpec = _DeploymentSpec()
    status: _DeploymentStatus = _DeploymentStatus()

    @property
    def version(self) -> str:
        return self.metadata.labels.get("app.kubernetes.io/version", "")

    @property
    def full_name(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"

    def variable(self, name: str) -> str:
        """Return a variable of its containers; empty where it isn't set."""
        found = (each for container in self.spec.template.spec.containers for each in container.env)
        return next((each.value for each in found if each.name == name), "")


class _LeaseSpec(_Part, frozen=True):
    holder_identity: str | None = None
    lease_duration_seconds: Count = 15
    renew_time: Time | None = None


class Lease(_Part, frozen=True):
    metadata: Metadata
    spec: _LeaseSpec = _LeaseSpec()

    def held(self, now: datetime) -> str:
        """Return its holder; empty where it has none, or one that hasn't renewed it in time."""
        holder, renewed = self.spec.holder_identity or "", self.spec.renew_time
        late = renewed is None or (now - renewed).total_seconds() > 2 * self.spec.lease_duration_seconds
        return "" if late else holder


class Named(_Part, frozen=True):
    """Object of which only labels matter, such as a definition or a RuntimeClass."""

    metadata: Metadata


class _Schema(_Part, frozen=True):
    whole: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"{}"), name="openAPIV3Schema")


class _DefinitionVersion(_Part, frozen=True):
    name: str
    schema: _Schema = _Schema()


class _DefinitionSpec(_Part, frozen=True):
    versions: tuple[_DefinitionVersion, ...] = ()


class Definition(_Part, frozen=True):
    """A CustomResourceDefinition."""

    metadata: Metadata
    spec: _DefinitionSpec = _DefinitionSpec()

    @property
    def schema_digest(self) -> str:
        """Return the digest of the schema of the version that this plugin knows; empty where there is none."""
        found = next((each for each in self.spec.versions if each.name == names.VERSION), None)
        return definitions.digest(msgspec.json.decode(found.schema.whole)) if found else ""


class _List(_Part, frozen=True):
    items: list[msgspec.Raw]


class _Name(_Part, frozen=True):
    name: str


class _Named(_Part, frozen=True):
    """Object of which only the name can be read."""

    metadata: _Name


T = TypeVar("T")


def one(text: bytes, type_: type[T]) -> T | Invalid:
    """Return an object from kubectl's JSON. Never raises."""
    found = checked.read(text, msgspec.json.Decoder(type_), len(text))  # `Kubectl` bounds it
    if not isinstance(found, Invalid):
        return found
    named = checked.read(text, msgspec.json.Decoder(_Named), len(text))
    name = "an object" if isinstance(named, Invalid) else named.metadata.name
    return Invalid(f"{name} can't be read and is left out: {found}")


def many(text: bytes, type_: type[T]) -> tuple[list[T], list[Invalid]]:
    """Return the objects of a list from kubectl's JSON, and what can't be read of it. Never raises."""
    listed = one(text, _List)
    if isinstance(listed, Invalid):
        return [], [Invalid(listed.message.replace("an object", "kubectl's answer"))]
    found = [one(bytes(item), type_) for item in listed.items]
    return (
        [each for each in found if not isinstance(each, Invalid)],
        [each for each in found if isinstance(each, Invalid)],
    )


def decision(pod: Pod) -> Record | Invalid | None:
    """Return the operator's decision on the pod; None where there is no annotation."""
    text = pod.metadata.annotations.get(names.ANNOTATION_PLACEMENT)
    found = None if text is None else placement.read(text)
    if isinstance(found, Invalid):
        where = f"annotation {names.ANNOTATION_PLACEMENT} of pod {pod.metadata.name}"
        return Invalid(f"{where} can't be read: {found}")
    return found


def awake_reason(pod: Pod) -> routing.Record | Invalid | None:
    """Return why the operator made the pod awake or asleep; None where there is no annotation."""
    text = pod.metadata.annotations.get(names.ANNOTATION_ROUTING)
    found = None if text is None else routing.read(text)
    if isinstance(found, Invalid):
        where = f"annotation {names.ANNOTATION_ROUTING} of pod {pod.metadata.name}"
        return Invalid(f"{where} can't be read: {found}")
    return found


def sent_values(pod: Pod | None, models: Collection[str]) -> LiveValues:
    """Return the live settings that the operator sent to the pod for these models; empty where they can't be read."""
    text = "" if pod is None else pod.metadata.annotations.get(names.ANNOTATION_LIVE_SETTINGS, "")
    found = live_settings.parse(text, models)
    return LiveValues() if isinstance(found, Invalid) else found.values


def idle(resource: Resource, values: LiveValues, model: str) -> tuple[IdleValues, bool]:
    """Return the (timeouts, preload) that a model runs by: those that its pod got, else the resource's."""
    own = (values.models or {}).get(model)
    if own is not None:
        timeouts = live_settings.merged(own.idle or IdleValues(), values.idle or IdleValues())
        return timeouts, own.preload is True
    for each in resource.spec.models:
        if each.name == model:
            return live_settings.merged(each.idle, resource.spec.idle), each.preload
    return resource.spec.idle, False


def _number(text: str) -> int:
    return numbers.whole(text, 0, 10**12 - 1) or 0
