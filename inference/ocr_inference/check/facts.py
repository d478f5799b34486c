"""What a check found, in the form of its JSON document. Keys are never renamed; sizes are bytes."""

from typing import Literal

from msgspec import Struct

SourceState = Literal["complete", "incomplete", "to_download", "not_needed"]
"""Where the files of a model are."""
Fits = Literal["yes", "not_now", "no", "unknown"]


class Finding(Struct, frozen=True):
    level: Literal["problem", "warning", "note"]
    """A `problem` keeps the server, or one of its models, from working."""
    subject: str
    """The key of the document that it is about."""
    message: str


class Device(Struct, frozen=True, kw_only=True):
    """Device that the server would serve on."""

    requested: str
    """`OCR_DEVICE`, or `FORCE_BACKEND`."""
    kind: str | None = None
    """`cuda`, `cpu` or `simulated`; null where the requested one isn't here."""
    uuid: str | None = None
    product: str | None = None
    memory_total_bytes: int = 0
    """0 on a CPU."""
    memory_free_bytes: int | None = None
    compute_capability: str | None = None
    dtype: str | None = None
    """What `dtype: auto` computes in."""
    problem: str | None = None


class Driver(Struct, frozen=True, kw_only=True):
    """NVIDIA's driver, by NVML."""

    version: str | None = None
    cuda_version: str | None = None
    """The newest CUDA that it can run."""
    problem: str | None = None
    """Why it can't be asked; usually that there is none."""


class Gpu(Struct, frozen=True, kw_only=True):
    index: int
    uuid: str
    product: str
    memory_total_bytes: int
    memory_free_bytes: int
    compute_capability: str | None
    dtype: str
    served: bool
    """Whether the server would serve on it."""


class Torch(Struct, frozen=True, kw_only=True):
    """Abilities of torch, as a process of its own found them."""

    version: str | None = None
    cuda_version: str | None = None
    """CUDA that it was built for; null for a build for CPUs."""
    transformers: str | None = None
    flash_attention: str | None = None
    """Version of flash-attn; null where it isn't installed."""
    computes_on_gpu: bool = False
    """Whether it added two numbers on the GPU."""
    problem: str | None = None


class Engine(Struct, frozen=True, kw_only=True):
    name: str
    missing: tuple[str, ...] = ()
    """Libraries that aren't installed."""
    extra: str
    """What installs them: `pip install 'ocr-operator[extra]'`."""
    runs: str | None = None
    """Version of what it runs by an interpreter of its own, such as vLLM's; null of other engines."""
    computes_on: Literal["cpu", "cuda"] | None = None
    """The only kind of device that this version computes on; null of other engines."""
    problem: str | None = None
    """Why that can't be run."""


class Model(Struct, frozen=True, kw_only=True):
    name: str
    engine: str
    on: str
    """`cuda`, `cpu` or `simulated`: where it computes."""
    need_bytes: int | None = None
    """Memory of the device that it needs; null where that isn't known, and on a CPU."""
    need_from: Literal["gpuMemory", "checkpoint"] | None = None
    """`checkpoint`: the size of its files, and pages need some more."""
    weight_bytes: int | None = None
    """Size of its files, which host memory holds, too; null where it isn't known."""
    packed_bytes: int | None = 0
    """The most that a second copy of its weights takes, which a CPU computes with; null where that isn't known."""
    fits: Fits = "unknown"
    source: SourceState
    source_problem: str | None = None
    dtype: str = "auto"
    attention: str = "auto"


class Cache(Struct, frozen=True, kw_only=True):
    """Folders that weights are kept in."""

    path: str
    """Of `OCR_CACHE_DIR`: weight images."""
    hub_path: str
    """Of checkpoints from a hub."""
    writable: bool
    free_bytes: int | None
    problem: str | None = None


class Limits(Struct, frozen=True, kw_only=True):
    """Limits of this process, by affinity, control groups and open files."""

    cores: float
    threads: int
    """What `threads: 0` computes with."""
    memory_limit_bytes: int | None = None
    """Null without a limit."""
    memory_left_bytes: int
    """What may still be taken of the limit and of the machine."""
    open_files: int
    connections: int | None
    """Requests that are served at a time; null where the files don't suffice for a server."""
    problem: str | None = None


class Port(Struct, frozen=True, kw_only=True):
    host: str
    port: int
    served: bool = False
    """Whether a server of this program listens there already."""
    problem: str | None = None


class Tokens(Struct, frozen=True, kw_only=True):
    variable: str
    path: str
    usable: bool
    """Whether it has a token that counts; without one its calls are closed."""
    problem: str | None = None


class LiveSettings(Struct, frozen=True, kw_only=True):
    """File of `OCR_LIVE_SETTINGS_FILE`."""

    path: str
    is_there: bool
    revision: int = 0
    """Of what it declares; 0 where it declares nothing."""
    ignored: tuple[str, ...] = ()
    """Keys that this version doesn't know."""
    problem: str | None = None
    """Why it counts for nothing."""


class Facts(Struct, frozen=True, kw_only=True):
    version: str
    python: str
    device: Device
    driver: Driver
    gpus: tuple[Gpu, ...]
    torch: Torch | None
    """Null where no model needs it."""
    engines: tuple[Engine, ...]
    """Those of the configured models."""
    models: tuple[Model, ...]
    cache: Cache
    limits: Limits
    port: Port
    tokens: tuple[Tokens, ...]
    live_settings: LiveSettings | None = None
    """Null where no file is configured."""


class Report(Struct, frozen=True, kw_only=True):
    """The JSON document."""

    ok: bool
    """False where there is a `problem`."""
    findings: tuple[Finding, ...]
    facts: Facts
