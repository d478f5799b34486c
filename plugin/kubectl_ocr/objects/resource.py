"""OcrDeployments as the plugin looks at them."""

from typing import Annotated

import msgspec

from kubectl_ocr.objects.part import Condition, Metadata, Part
from ocr_wire import names
from ocr_wire.live_settings import IdleValues
from ocr_wire.states import Location, State
from ocr_wire.text import Count, Counter, Time


class ModelSpec(Part, frozen=True):
    name: str
    gpu_memory: str | int | None = None
    idle: IdleValues = IdleValues()
    preload: bool = False


class Server(Part, frozen=True):
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = names.DEFAULT_PORT
    api_keys_secret_name: str = ""


class GpuSpec(Part, frozen=True):
    sharing: str = "exclusive"
    resource_name: str = names.RESOURCE_GPU
    runtime_class_name: str = ""


class Spec(Part, frozen=True):
    models: list[ModelSpec] = msgspec.field(default_factory=list)
    idle: IdleValues = IdleValues()
    server: Server = Server()
    gpu: GpuSpec = GpuSpec()


class Gpu(Part, frozen=True):
    uuid: str
    product: str = ""


class ModelStatus(Part, frozen=True):
    name: str
    state: str = State.UNKNOWN
    location: str = Location.UNKNOWN
    idle_since: Time | None = None
    """When its last request ended; absent while requests run, and from operators that don't tell it."""
    oldest_lease_since: Time | None = None
    """When the oldest of the requests that run began, once that is long ago."""
    stuck_since: Time | None = None
    """When its worker was killed that hasn't ended."""


class PodStatus(Part, frozen=True):
    name: str
    node: str = ""
    gpus: list[Gpu] = msgspec.field(default_factory=list)
    device: str = ""
    ready: bool = False
    applied_generation: Counter | None = None
    models: list[ModelStatus] = msgspec.field(default_factory=list)


class Source(msgspec.Struct, frozen=True, rename={"origin": "from"}):
    """Effective value of a live setting, and where it comes from."""

    field: str
    value: str = ""
    origin: str = ""


class LiveOverride(Part, frozen=True):
    hash: str = ""
    until: Time | None = None
    rejected: str = ""


class LiveSettings(Part, frozen=True):
    revision: Counter = 0
    sources: list[Source] = msgspec.field(default_factory=list)
    override: LiveOverride | None = None


class Status(Part, frozen=True):
    observed_generation: Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)] | None = None
    """Below 1 or None: the operator hasn't looked at it yet."""
    phase: str = ""
    replicas: Count = 0
    ready_replicas: Count = 0
    pods: list[PodStatus] = msgspec.field(default_factory=list)
    live_settings: LiveSettings = LiveSettings()
    conditions: list[Condition] = msgspec.field(default_factory=list)


class Resource(Part, frozen=True):
    metadata: Metadata
    spec: Spec = Spec()
    status: Status = Status()

    def condition(self, type_: str) -> Condition | None:
        return next((each for each in self.status.conditions if each.type == type_), None)
