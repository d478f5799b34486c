"""Kubernetes objects as kubectl prints them (JSON), parsed into what the plugin looks at.

A cluster may hold other versions of the definition and annotations edited by hand: unknown fields are ignored, an
object that can't be read is reported by its name, and the others are shown.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

import msgspec

from kubectl_ocr import names

MAX_ANNOTATION_BYTES: Final = 256 * 1024
"""What the API server allows all annotations of an object together."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Seconds = Annotated[float, msgspec.Meta(ge=-1, le=1e9)]
Score = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Unknown fields are ignored."""


class Metadata(_Part, frozen=True):
    name: str
    namespace: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None


class Idle(_Part, frozen=True):
    """Idle timeouts in seconds, -1 for never; None where nothing is said."""

    offload_after_seconds: Seconds | None = None
    exit_after_seconds: Seconds | None = None
    release_after_seconds: Seconds | None = None

    def merged(self, over: "Idle") -> "Idle":
        return Idle(
            offload_after_seconds=_first(over.offload_after_seconds, self.offload_after_seconds),
            exit_after_seconds=_first(over.exit_after_seconds, self.exit_after_seconds),
            release_after_seconds=_first(over.release_after_seconds, self.release_after_seconds),
        )


class ModelSpec(_Part, frozen=True):
    name: str
    gpu_memory: str | int | None = None
    idle: Idle = Idle()
    preload: bool = False


class Server(_Part, frozen=True):
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8001
    api_keys_secret_name: str = ""


class Spec(_Part, frozen=True):
    models: list[ModelSpec] = []
    idle: Idle = Idle()
    server: Server = Server()


class Gpu(_Part, frozen=True):
    uuid: str
    product: str = ""


class ModelStatus(_Part, frozen=True):
    name: str
    state: str = "unknown"
    location: str = "unknown"
    idle_since: Time | None = None
    """When its last request ended; absent while requests run, and from operators that don't tell it."""


class PodStatus(_Part, frozen=True):
    name: str
    node: str = ""
    gpus: list[Gpu] = []
    device: str = ""
    ready: bool = False
    applied_generation: int | None = None
    models: list[ModelStatus] = []


class Condition(_Part, frozen=True):
    type: str
    status: str
    reason: str = ""
    message: str = ""
    observed_generation: int | None = None


class Status(_Part, frozen=True):
    observed_generation: int | None = None
    phase: str = ""
    replicas: Count = 0
    ready_replicas: Count = 0
    pods: list[PodStatus] = []
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


class Container(_Part, frozen=True):
    name: str
    ports: list[Port] = []


class PodSpec(_Part, frozen=True):
    node_name: str = ""
    scheduling_gates: list[Gate] = []
    containers: list[Container] = []


class PodState(_Part, frozen=True):
    phase: str = ""
    conditions: list[Condition] = []


class Pod(_Part, frozen=True):
    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodState = PodState()

    @property
    def deployment(self) -> str:
        """The resource that it belongs to; empty for other people's pods."""
        return self.metadata.labels.get(names.LABEL_DEPLOYMENT, "")

    @property
    def ready(self) -> bool:
        """Whether it accepts requests."""
        told = any((each.type, each.status) == ("Ready", "True") for each in self.status.conditions)
        return told and self.metadata.deletion_timestamp is None

    @property
    def gated(self) -> bool:
        return any(each.name == names.GATE for each in self.spec.scheduling_gates)

    def port(self, otherwise: int) -> int:
        """Where its server listens."""
        ports = [port for each in self.spec.containers if each.name == names.CONTAINER for port in each.ports]
        return next((port.container_port for port in ports if port.name == names.PORT_NAME), otherwise)


class _Amounts(_Part, frozen=True):
    capacity: dict[str, str] = {}


class Node(_Part, frozen=True):
    metadata: Metadata
    status: _Amounts = _Amounts()

    @property
    def gpus(self) -> int:
        """Devices that the node announces."""
        return _number(self.status.capacity.get("nvidia.com/gpu", ""))

    @property
    def product(self) -> str:
        return self.metadata.labels.get(names.LABEL_GPU_PRODUCT, "")

    @property
    def gpu_memory_bytes(self) -> int:
        """Of each of them; 0 where no label tells it."""
        return _number(self.metadata.labels.get(names.LABEL_GPU_MEMORY, "")) * 2**20


class RunnerUp(_Part, frozen=True):
    node: str
    uuid: str = ""
    score: Score = 0.0


class Placement(_Part, frozen=True):
    """The pod's annotation `ocr-operator.io/placement`: what was decided, and on what grounds."""

    node: str = ""
    gpus: list[Gpu] = []
    sharing: str = ""
    memory_bytes: Count = 0
    placed_at: Time | None = None
    basis: str = ""
    score: Score | None = None
    data_age_seconds: Seconds | None = None
    runners_up: list[RunnerUp] = []
    why: str = ""


class _LiveModel(_Part, frozen=True):
    idle: Idle = Idle()
    preload: bool = False


class _LiveValues(_Part, frozen=True):
    models: dict[str, _LiveModel] = {}


class _Live(_Part, frozen=True):
    values: _LiveValues = _LiveValues()


class _List(_Part, frozen=True):
    items: list[msgspec.Raw]


class _Named(_Part, frozen=True):
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that isn't what it should be, and why."""

    message: str


T = TypeVar("T")
_ERRORS: Final = (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError, OverflowError)


def one(text: bytes, type_: type[T]) -> T | Unreadable:
    """An object from kubectl's JSON. Never raises."""
    try:
        return msgspec.json.decode(text, type=type_)
    except _ERRORS as error:
        try:
            name = msgspec.json.decode(text, type=_Named).metadata.name
        except _ERRORS:
            name = "an object"
        return Unreadable(f"{name} can't be read and is left out: {error}")


def many(text: bytes, type_: type[T]) -> tuple[list[T], list[Unreadable]]:
    """A list from kubectl's JSON: what can be read, and what can't. Never raises."""
    listed = one(text, _List)
    if isinstance(listed, Unreadable):
        return [], [Unreadable(listed.message.replace("an object", "kubectl's answer"))]
    found = [one(bytes(item), type_) for item in listed.items]
    return (
        [each for each in found if not isinstance(each, Unreadable)],
        [each for each in found if isinstance(each, Unreadable)],
    )


def placement(pod: Pod) -> Placement | Unreadable | None:
    """The decision on the pod; None where there is no annotation."""
    return _annotation(pod, names.ANNOTATION_PLACEMENT, Placement)


def idle(resource: Resource, pod: Pod | None, model: str) -> tuple[Idle, bool]:
    """(timeouts, preload) that a model runs by: what the pod was told, else what the resource says."""
    told = _annotation(pod, names.ANNOTATION_LIVE_SETTINGS, _Live) if pod is not None else None
    if isinstance(told, _Live) and model in told.values.models:
        live = told.values.models[model]
        return live.idle, live.preload
    for each in resource.spec.models:
        if each.name == model:
            return resource.spec.idle.merged(each.idle), each.preload
    return resource.spec.idle, False


def _annotation(pod: Pod, key: str, type_: type[T]) -> T | Unreadable | None:
    text = pod.metadata.annotations.get(key)
    if text is None:
        return None
    if len(text) > MAX_ANNOTATION_BYTES:
        return Unreadable(f"annotation {key} of pod {pod.metadata.name} has {len(text)} characters")
    try:
        return msgspec.json.decode(text, type=type_)
    except _ERRORS as error:
        return Unreadable(f"annotation {key} of pod {pod.metadata.name} can't be read: {error}")


_UNITS: Final[Mapping[str, int]] = {
    **{suffix: 1024**power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), 1)},
    **{suffix: 1000**power for power, suffix in enumerate(("k", "M", "G", "T", "P"), 1)},
}


def bytes_of(quantity: str | int | None) -> int:
    """Bytes of a Kubernetes quantity such as `12Gi`; 0 for what isn't one."""
    if isinstance(quantity, int):
        return max(0, quantity)
    text = (quantity or "").strip()[:32]
    unit = next((each for each in _UNITS if text.endswith(each)), "")
    try:
        value = float(text.removesuffix(unit)) * _UNITS.get(unit, 1)
    except ValueError:
        return 0
    return int(value) if math.isfinite(value) and 0 <= value < 2**63 else 0


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 12 else 0
