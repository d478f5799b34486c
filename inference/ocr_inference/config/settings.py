"""What the server is told: by its environment, by its configuration FILE, and live, while it runs.

Three layers, each parsed strictly at its edge into frozen values:

* `Settings`: the process (address, device, files), from the environment (`environment`) and the command line; fixed.
* `Config`: the FILE (YAML, so JSON too): models and limits, plus defaults for what may change live; fixed.
* `LiveSettings`: the part that changes without a restart, declared from outside with a revision.

`effective` merges them into the one `Effective` that the manager works by. Field by field, the first that
says something wins: a local timeout, live values of the model, live values, the FILE's model, the FILE, the
environment's `GPU_IDLE_TIMEOUT`, the default here.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

NEVER = -1.0
"""A timeout that never runs out."""

MAX_TIMEOUT_SECONDS = 31_536_000
MAX_FILE_BYTES = 1 << 20
"""Bound of the FILE and of the live settings file; the API server bounds an annotation far below this."""

Device = Literal["auto", "cuda", "cpu", "simulated"]
LogLevel = Literal["debug", "info", "warning", "error"]

Timeout = Annotated[float, Meta(ge=-1, le=MAX_TIMEOUT_SECONDS)]
"""Seconds; 0 is at once, -1 is never, other negative numbers are refused."""

Name = Annotated[str, Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$")]
Text = Annotated[str, Meta(min_length=1, max_length=4096)]


class InvalidSettings(ValueError):
    """What the server was told is not acceptable; `param` is where: a JSON path or a variable's name."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(f"{param}: {message}")
        self.message = message
        self.param = param


class _Part(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=False):
    """A strict piece of the FILE or of the live values."""


# --- what may change live -----------------------------------------------------------------------------------


class IdleValues(_Part, frozen=True):
    offload_after_seconds: Timeout | UnsetType = UNSET
    exit_after_seconds: Timeout | UnsetType = UNSET
    release_after_seconds: Timeout | UnsetType = UNSET


class BatchingValues(_Part, frozen=True):
    max_pages: Annotated[int, Meta(ge=1, le=256)] | UnsetType = UNSET
    max_wait_milliseconds: Annotated[float, Meta(ge=0, le=60_000)] | UnsetType = UNSET


class QueueValues(_Part, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=100_000)] | UnsetType = UNSET
    patience_seconds: Annotated[float, Meta(ge=0, le=86_400)] | UnsetType = UNSET
    deadline_seconds: Annotated[float, Meta(gt=0, le=86_400)] | UnsetType = UNSET


class ModelValues(_Part, frozen=True):
    idle: IdleValues | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | UnsetType = UNSET
    preload: bool | UnsetType = UNSET


class LiveValues(_Part, frozen=True):
    """The declared live values as sent: what is unset stays unset, so that the echo hashes the same."""

    idle: IdleValues | UnsetType = UNSET
    batching: BatchingValues | UnsetType = UNSET
    queue: QueueValues | UnsetType = UNSET
    log_level: LogLevel | UnsetType = UNSET
    models: Annotated[dict[Name, ModelValues], Meta(max_length=64)] | UnsetType = UNSET


@dataclass(frozen=True)
class LiveSettings:
    """The envelope around live values: the same in the pod annotation, `PUT /v1/settings` and the state.

    Revision 0 means that nothing was declared yet.
    """

    generation: int = 0
    revision: int = 0
    values: LiveValues = field(default_factory=LiveValues)

    @property
    def hash(self) -> str:
        return digest(msgspec.to_builtins(self.values))

    def to_json(self) -> dict[str, Any]:
        values = _integral(msgspec.to_builtins(self.values))
        return {
            "generation": self.generation,
            "revision": self.revision,
            "hash": digest(values),
            "values": values,
        }


# --- the FILE -----------------------------------------------------------------------------------------------


class HuggingFace(_Part, frozen=True):
    repo: Annotated[str, Meta(min_length=3, max_length=200, pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Text = "main"


class Source(_Part, frozen=True):
    """Where weights come from: exactly one of the two."""

    hugging_face: HuggingFace | None = None
    path: Text | None = None


class ModelConfig(_Part, frozen=True):
    name: Name
    engine: Annotated[str, Meta(min_length=1, max_length=32)]
    source: Source | None = None
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    gpu_memory: Annotated[int | str | None, Meta(description="Kubernetes quantity")] = None
    options: Annotated[dict[str, bool | int | float | str], Meta(max_length=32)] = {}
    """Options of the engine itself, by its own names; the resource has none of them."""
    idle: IdleValues = IdleValues()
    priority: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] = 0
    preload: bool = False

    @property
    def gpu_memory_bytes(self) -> int | None:
        """Bytes that placement and eviction count with; None where the FILE doesn't say."""
        return None if self.gpu_memory is None else quantity(self.gpu_memory)


class Limits(_Part, frozen=True):
    max_upload_bytes: Annotated[int, Meta(ge=1, le=1 << 34)] = 50 << 20
    max_image_pixels: Annotated[int, Meta(ge=1, le=1 << 32)] = 100_000_000
    max_pdf_pages: Annotated[int, Meta(ge=1, le=100_000)] = 200


class ServerConfig(_Part, frozen=True):
    limits: Limits = Limits()


ENGINES = ("transformers", "rapidocr", "fake")
DEFAULT_MODELS = (ModelConfig(name="pp-ocr", engine="rapidocr"),)


class Config(_Part, frozen=True):
    models: Annotated[tuple[ModelConfig, ...], Meta(min_length=1, max_length=8)] = DEFAULT_MODELS
    """The first one is the default model."""
    server: ServerConfig = ServerConfig()
    idle: IdleValues = IdleValues()
    batching: BatchingValues = BatchingValues()
    queue: QueueValues = QueueValues()
    log_level: LogLevel = "info"

    def model(self, name: str) -> ModelConfig | None:
        return next((model for model in self.models if model.name == name), None)


# --- the merge ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Idle:
    """Seconds since a model's last activity, each counted on its own; `NEVER` (-1) switches one off."""

    offload_after_seconds: float = 60.0
    exit_after_seconds: float = 300.0
    release_after_seconds: float = 1800.0


@dataclass(frozen=True)
class Batching:
    max_pages: int = 8
    max_wait_milliseconds: float = 10.0


@dataclass(frozen=True)
class Queue:
    limit: int = 64
    """Waiters over all models; one more is refused."""
    patience_seconds: float = 10.0
    deadline_seconds: float = 300.0


@dataclass(frozen=True)
class ModelPolicy:
    idle: Idle
    priority: int
    preload: bool


@dataclass(frozen=True)
class Effective:
    """What the server works by now: complete, merged, validated. Every configured model is in `models`."""

    batching: Batching
    queue: Queue
    log_level: LogLevel
    models: Mapping[str, ModelPolicy]


def effective(
    config: Config,
    live: LiveSettings,
    gpu_idle_timeout: float | None = None,
    local_timeouts: Mapping[str, float] | None = None,
) -> Effective:
    """Merge in the order of the module's docstring; `local_timeouts` are offload timeouts by model."""
    values, local = live.values, local_timeouts or {}
    environment = (
        IdleValues() if gpu_idle_timeout is None else IdleValues(offload_after_seconds=gpu_idle_timeout)
    )
    declared = values.models or {}
    policies = {}
    for model in config.models:
        own = declared.get(model.name, ModelValues())
        here = IdleValues(offload_after_seconds=local[model.name]) if model.name in local else IdleValues()
        policies[model.name] = ModelPolicy(
            idle=_first(Idle(), here, own.idle, values.idle, model.idle, config.idle, environment),
            priority=own.priority if isinstance(own.priority, int) else model.priority,
            preload=own.preload if isinstance(own.preload, bool) else model.preload,
        )
    return Effective(
        batching=_first(Batching(), values.batching, config.batching),
        queue=_first(Queue(), values.queue, config.queue),
        log_level=values.log_level or config.log_level,
        models=policies,
    )


_D = TypeVar("_D", Idle, Batching, Queue)


def _first(defaults: _D, *layers: IdleValues | BatchingValues | QueueValues | UnsetType) -> _D:
    """`defaults` with each field from the first layer that sets it."""
    said: dict[str, Any] = {}
    for layer in layers:
        if layer is not UNSET:
            for name in layer.__struct_fields__:
                if (value := getattr(layer, name)) is not UNSET:
                    said.setdefault(name, value)
    return replace(defaults, **said)


def digest(values: Mapping[str, Any]) -> str:
    """First 16 hex digits of SHA-256 over the canonical JSON.

    Canonical is: sorted keys, no spaces, UTF-8, integral floats as ints.
    """
    canonical = json.dumps(
        _integral(values), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _integral(value: Any) -> Any:
    match value:
        case Mapping():
            return {key: _integral(item) for key, item in value.items()}
        case list() | tuple():
            return [_integral(item) for item in value]
        case float() if value.is_integer():
            return int(value)
    return value


def shown(text: str) -> str:
    """Text from outside, short and printable enough for a message."""
    return "".join(char if char.isprintable() else "?" for char in text[:80])


# --- quantities ---------------------------------------------------------------------------------------------


_QUANTITY = re.compile(
    r"^(?P<number>\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?P<unit>[KMGTPE]i|[numkMGTPE]|[eE][+-]?\d{1,2}|)$"
)
_UNITS = {
    **dict(zip(("n", "u", "m", "", "k"), (Fraction(1000) ** power for power in range(-3, 2)), strict=True)),
    **{unit: Fraction(1000 ** (power + 2)) for power, unit in enumerate("MGTPE")},
    **{unit + "i": Fraction(1024 ** (power + 1)) for power, unit in enumerate("KMGTPE")},
}


def quantity(value: str | int) -> int:
    """A Kubernetes quantity in bytes, rounded up: `12Gi`, `500M`, `1.5e9`, `4096`."""
    match = _QUANTITY.match(str(value))
    if match is None:
        raise InvalidSettings(f"{shown(str(value))!r} is not a quantity such as 12Gi", "quantity")
    unit = match["unit"]
    factor = _UNITS[unit] if unit in _UNITS else Fraction(10) ** int(unit[1:])
    number = math.ceil(Fraction(Decimal(match["number"])) * factor)
    if number >= 2**63:
        raise InvalidSettings(f"{match[0]!r} is too large", "quantity")
    return number


# --- the process --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """The process, as `environment.read` finds it; `docs/server-settings.md` describes each variable."""

    host: str = "0.0.0.0"
    port: int = 8001
    device: Device = "auto"
    visible_devices: str | None = None
    """`NVIDIA_VISIBLE_DEVICES` as given: UUIDs or indexes, comma-separated; `auto` is the least used GPU."""
    promised_gpu_uuids: tuple[str, ...] = ()
    """What the placement promised; empty: nothing, or nobody did."""
    simulated_gpu_dir: Path | None = None
    gpu_idle_timeout: float | None = None
    config_file: Path | None = None
    live_settings_file: Path | None = None
    admin_token_file: Path | None = None
    api_keys_file: Path | None = None
    cache_dir: Path = Path(".cache/ocr-inference")
    pod_name: str = ""
    pod_uid: str = ""
    drain_seconds: float = 20.0
    forkserver: bool = True
    """Whether workers are forked from processes that have their engine's imports done."""
