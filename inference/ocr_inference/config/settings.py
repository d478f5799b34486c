"""Types of the configuration: of the process, of the FILE, and their merge with the live settings.

Three layers, each parsed at its edge into frozen values:

* `Settings`: the process (address, device, files), from the environment (`environment`) and the command line; fixed.
* `Config`: the FILE (YAML, so JSON too): models and limits, plus defaults for what may change live; fixed.
* `ocr_wire.live_settings`: the part that changes without a restart, declared from outside with a revision.

`effective` merges them into the one `Effective` that the manager works by. Each field comes from the first of these
that sets it: a local timeout, live values of the model, live values, the FILE's model, the FILE, the environment's
`GPU_IDLE_TIMEOUT`, the default of `ocr_wire.settings`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from ocr_inference.connections.limits import Times
from ocr_wire import quantity, text
from ocr_wire.engines import Attention, Dtype
from ocr_wire.live_settings import (
    BatchingValues,
    IdleValues,
    LiveValues,
    ModelValues,
    QueueValues,
    completed,
)
from ocr_wire.settings import LogLevel, accepted, default

MAX_FILE_BYTES = 1 << 20
"""Bound of the FILE; the API server bounds an annotation far below this."""

Device = Literal["auto", "cuda", "cpu", "simulated"]
Forkserver = Literal["on", "resident", "off"]
Text = Annotated[str, Meta(min_length=1, max_length=4096)]


class InvalidSettings(ValueError):
    """Configuration that can't be used; `param` is where: a JSON path or a variable's name."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(f"{param}: {message}")
        self.message = message
        self.param = param


# --- the FILE -----------------------------------------------------------------------------------------------


class _Part(Struct, frozen=True, rename="camel"):
    """Piece of the FILE; `parsing` refuses keys that it doesn't have."""


class HuggingFace(_Part, frozen=True):
    """Repository of a hub."""

    repo: Annotated[
        str, Meta(min_length=3, max_length=200, pattern=text.whole(r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$"))
    ]
    revision: Text = "main"


class Source(_Part, frozen=True):
    """Source of weights: exactly one of the two."""

    hugging_face: HuggingFace | None = None
    path: Text | None = None


class ModelConfig(_Part, frozen=True):
    """Model of this server."""

    name: text.ModelName
    engine: Annotated[str, Meta(min_length=1, max_length=32)]
    source: Source | None = None
    dtype: Dtype = "auto"
    attention: Attention = "auto"
    gpu_memory: Annotated[int | str | None, Meta(description="Kubernetes quantity")] = None
    options: Annotated[dict[str, bool | int | float | str], Meta(max_length=32)] = {}
    """Options of the engine itself, by its own names; the resource has none of them."""
    idle: IdleValues = IdleValues()
    priority: Annotated[int, accepted("priority")] = default("priority")
    preload: bool = default("preload")

    @property
    def gpu_memory_bytes(self) -> int | None:
        """Bytes that placement and eviction count with; None where the FILE has no value."""
        return None if self.gpu_memory is None else quantity.size(self.gpu_memory)


class Limits(_Part, frozen=True):
    """Bounds of what clients send."""

    max_upload_bytes: Annotated[int, Meta(ge=1, le=1 << 34)] = 50 << 20
    max_image_pixels: Annotated[int, Meta(ge=1, le=1 << 32)] = 100_000_000
    max_pdf_pages: Annotated[int, Meta(ge=1, le=100_000)] = 200


class ServerConfig(_Part, frozen=True):
    """Part of the FILE about the server itself."""

    limits: Limits = Limits()


DEFAULT_MODELS = (ModelConfig(name="pp-ocr", engine="rapidocr"),)


class Config(_Part, frozen=True):
    """Content of the FILE."""

    models: Annotated[tuple[ModelConfig, ...], Meta(min_length=1, max_length=8)] = DEFAULT_MODELS
    """The first one is the default model."""
    server: ServerConfig = ServerConfig()
    idle: IdleValues = IdleValues()
    batching: BatchingValues = BatchingValues()
    queue: QueueValues = QueueValues()
    log_level: LogLevel = default("logLevel")

    def model(self, name: str) -> ModelConfig | None:
        """Return the model of that name, or None."""
        return next((model for model in self.models if model.name == name), None)


# --- the merge ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Idle:
    """Seconds since a model's last activity, each counted on its own; `NEVER` (-1) switches one off."""

    offload_after_seconds: float = default("idle.offloadAfterSeconds")
    exit_after_seconds: float = default("idle.exitAfterSeconds")
    release_after_seconds: float = default("idle.releaseAfterSeconds")
    drop_standby_after_seconds: float = default("idle.dropStandbyAfterSeconds")


@dataclass(frozen=True)
class Batching:
    """Pages in one call of a model."""

    max_pages: int = default("batching.maxPages")
    max_wait_milliseconds: float = default("batching.maxWaitMilliseconds")


@dataclass(frozen=True)
class Queue:
    """Requests that wait for a lease."""

    limit: int = default("queue.limit")
    """Waiters over all models; one more is refused."""
    patience_seconds: float = default("queue.patienceSeconds")
    deadline_seconds: float = default("queue.deadlineSeconds")


@dataclass(frozen=True)
class ModelPolicy:
    """Live settings of one model, merged."""

    idle: Idle
    priority: int
    preload: bool


@dataclass(frozen=True)
class Effective:
    """Live settings that the server works by: complete, merged, valid. Every configured model is in `models`."""

    batching: Batching
    queue: Queue
    log_level: LogLevel
    models: Mapping[str, ModelPolicy]


def effective(
    config: Config,
    values: LiveValues,
    gpu_idle_timeout: float | None = None,
    local_timeouts: Mapping[str, float] | None = None,
) -> Effective:
    """Merge in the order of the module's docstring; `local_timeouts` are offload timeouts by model."""
    local, declared = local_timeouts or {}, values.models or {}
    environment = _offload_after(gpu_idle_timeout)
    policies = {}
    for model in config.models:
        own = declared.get(model.name, ModelValues())
        layers = (_offload_after(local.get(model.name)), own.idle, values.idle, model.idle, config.idle)
        policies[model.name] = ModelPolicy(
            idle=completed(Idle(), *layers, environment),
            priority=model.priority if own.priority is UNSET else own.priority,
            preload=model.preload if own.preload is UNSET else own.preload,
        )
    return Effective(
        batching=completed(Batching(), values.batching, config.batching),
        queue=completed(Queue(), values.queue, config.queue),
        log_level=values.log_level or config.log_level,
        models=policies,
    )


def _offload_after(seconds: float | None) -> IdleValues | UnsetType:
    return UNSET if seconds is None else IdleValues(offload_after_seconds=seconds)


# --- the process --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """Settings of the process, as `environment.read` returns them; `docs/server-settings.md` describes each
    variable."""

    host: str = ""
    """Address to listen at; empty is all of the machine."""
    port: int = 8001
    device: Device = "auto"
    visible_devices: str | None = None
    """`NVIDIA_VISIBLE_DEVICES` as given: UUIDs or indexes, comma-separated; `auto` is the least used GPU."""
    cuda_visible_devices: str | None = None
    """`CUDA_VISIBLE_DEVICES` as given; empty hides each GPU, unlike unset."""
    cuda_device_order: str | None = None
    promised_gpu_uuids: tuple[str, ...] = ()
    """GPUs that the placement promised; empty where it promised none."""
    simulated_gpu_dir: Path | None = None
    gpu_idle_timeout: float | None = None
    config_file: Path | None = None
    named_model: ModelConfig | None = None
    """Model of `LOCAL_MODEL_PATH` or `MODEL_NAME`, which is served where there is no FILE."""
    live_settings_file: Path | None = None
    admin_token_file: Path | None = None
    api_keys_file: Path | None = None
    cors_origins: tuple[str, ...] = ()
    """Origins of pages elsewhere that may use the server, as browsers write them; `*` is each."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that the server answers to besides its own; `*` is each, `*.ocr` each below `ocr`."""
    max_connections: int | None = None
    """Requests at the same time; None is as many as the limit of open files allows, within reason."""
    connection_times: Times = field(default_factory=Times)
    cache_dir: Path = Path(".cache/ocr-inference")
    shared_weights: bool = False
    """Whether weights in host memory are files in the cache that other servers of the machine map, too."""
    pod_name: str = ""
    pod_uid: str = ""
    upload_memory_bytes: int = 200 << 20
    """Bytes that pages may take while they are sent, wait and are read; at least one page may be as large as it may."""
    job_memory_bytes: int = 128 << 20
    """Bytes of documents that jobs are to read, and of their results; at least twice those of the largest document."""
    file_memory_bytes: int = 64 << 20
    """Bytes of files that are uploaded to be read by their id; at least those of the largest document."""
    keep_seconds: float = 3600.0
    """Time that results of jobs and uploaded files are kept."""
    drain_seconds: float = 20.0
    forkserver: Forkserver = "on"
    """Whether workers are forked from processes that have their engine's imports done, and whether these keep their
    memory (`resident`) or leave it to a file on the disk while they wait."""

    @property
    def has_tokens(self) -> bool:
        """Whether anything here needs a token."""
        return self.api_keys_file is not None or self.admin_token_file is not None
