"""What the server is told: by its environment, by its configuration FILE, and live, while it runs.

Three layers, each parsed strictly at its edge into frozen values:

* `Settings`: the process (address, device, files), from the environment and the command line; fixed.
* `Config`: the FILE (YAML, so JSON too): models and limits, plus defaults for what may change live; fixed.
* `LiveSettings`: the part that changes without a restart, declared from outside with a revision.

`effective` merges them into the one `Effective` that the manager works by. Field by field, the first that says
something wins: a local timeout, live values of the model, live values, the FILE's model, the FILE, the
environment's `GPU_IDLE_TIMEOUT`, the default here.
"""

import difflib
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import msgspec
import yaml
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
    """Something the server was told is not acceptable; `param` is where, as a JSON path or a variable's name."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(f"{param}: {message}")
        self.message = message
        self.param = param


class _Part(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=False):
    """A strict piece of the FILE or of the live values."""


# --- what may change live -------------------------------------------------------------------------------------


class IdleValues(_Part):
    offload_after_seconds: Timeout | UnsetType = UNSET
    exit_after_seconds: Timeout | UnsetType = UNSET
    release_after_seconds: Timeout | UnsetType = UNSET


class BatchingValues(_Part):
    max_pages: Annotated[int, Meta(ge=1, le=256)] | UnsetType = UNSET
    max_wait_milliseconds: Annotated[float, Meta(ge=0, le=60_000)] | UnsetType = UNSET


class QueueValues(_Part):
    limit: Annotated[int, Meta(ge=1, le=100_000)] | UnsetType = UNSET
    patience_seconds: Annotated[float, Meta(ge=0, le=86_400)] | UnsetType = UNSET
    deadline_seconds: Annotated[float, Meta(gt=0, le=86_400)] | UnsetType = UNSET


class ModelValues(_Part):
    idle: IdleValues | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | UnsetType = UNSET
    preload: bool | UnsetType = UNSET


class LiveValues(_Part):
    """The declared live values, exactly as sent: what is unset stays unset, so that the echo hashes the same."""

    idle: IdleValues | UnsetType = UNSET
    batching: BatchingValues | UnsetType = UNSET
    queue: QueueValues | UnsetType = UNSET
    log_level: LogLevel | UnsetType = UNSET
    models: Annotated[dict[Name, ModelValues], Meta(max_length=64)] | UnsetType = UNSET


@dataclass(frozen=True)
class LiveSettings:
    """The envelope around live values, the same in the pod annotation, in `PUT /v1/settings` and in the state.

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
        return {"generation": self.generation, "revision": self.revision, "hash": digest(values), "values": values}


# --- the FILE -------------------------------------------------------------------------------------------------


class HuggingFace(_Part):
    repo: Annotated[str, Meta(min_length=3, max_length=200, pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Text = "main"


class Source(_Part):
    """Where weights come from: exactly one of the two."""

    hugging_face: HuggingFace | None = None
    path: Text | None = None


class ModelConfig(_Part):
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


class Limits(_Part):
    max_upload_bytes: Annotated[int, Meta(ge=1, le=1 << 34)] = 50 << 20
    max_image_pixels: Annotated[int, Meta(ge=1, le=1 << 32)] = 100_000_000
    max_pdf_pages: Annotated[int, Meta(ge=1, le=100_000)] = 200


class ServerConfig(_Part):
    limits: Limits = Limits()


DEFAULT_MODELS = (ModelConfig(name="pp-ocr", engine="rapidocr"),)


class Config(_Part):
    models: Annotated[tuple[ModelConfig, ...], Meta(min_length=1, max_length=8)] = DEFAULT_MODELS
    """The first one is the default model."""
    server: ServerConfig = ServerConfig()
    idle: IdleValues = IdleValues()
    batching: BatchingValues = BatchingValues()
    queue: QueueValues = QueueValues()
    log_level: LogLevel = "info"

    def model(self, name: str) -> ModelConfig | None:
        return next((model for model in self.models if model.name == name), None)


# --- the merge ------------------------------------------------------------------------------------------------


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
    """Merge field by field in the order of the module's docstring; `local_timeouts` are offload timeouts by model."""
    raise NotImplementedError


def digest(values: Mapping[str, Any]) -> str:
    """First 16 hex digits of SHA-256 over the canonical JSON: sorted keys, no spaces, UTF-8, integral floats as ints."""
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


# --- parsing --------------------------------------------------------------------------------------------------


def parse_config(text: str) -> Config:
    """The FILE's text → `Config`; raises `InvalidSettings` that names the key, and the nearest known one."""
    raise NotImplementedError


def parse_live(text: str | bytes, models: tuple[str, ...]) -> LiveSettings:
    """An envelope as JSON → `LiveSettings`; `models` are the configured ones, others are refused.

    A `hash` is optional; where it is given it must match the values. Raises `InvalidSettings`.
    """
    raise NotImplementedError


def quantity(value: str | int) -> int:
    """A Kubernetes quantity in bytes, rounded up: `12Gi`, `500M`, `1.5e9`, `4096`."""
    raise NotImplementedError


# --- the process ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """The process; `docs/server-settings.md` describes each variable."""

    host: str = "0.0.0.0"
    port: int = 8001
    device: Device = "auto"
    visible_devices: str | None = None
    """`NVIDIA_VISIBLE_DEVICES` as given: UUIDs or indexes, comma-separated; `auto` is the least used GPU."""
    simulated_gpu_dir: Path | None = None
    gpu_idle_timeout: float | None = None
    config_file: Path | None = None
    live_settings_file: Path | None = None
    admin_token_file: Path | None = None
    api_keys_file: Path | None = None
    cache_dir: Path = Path.home() / ".cache" / "ocr-inference"
    pod_name: str = ""
    pod_uid: str = ""
    drain_seconds: float = 20.0

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str],
        *,
        config_file: str | None = None,
        host: str | None = None,
        port: int | None = None,
    ) -> Self:
        """Environment → `Settings`; command line arguments win. Raises `InvalidSettings` naming the variable."""
        raise NotImplementedError
