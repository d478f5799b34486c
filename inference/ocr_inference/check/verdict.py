"""Judges what was found: problems keep the server or a model from working, warnings cost something, notes explain."""

from collections.abc import Iterable, Iterator, Sequence

from ocr_inference.check.facts import (
    Cache,
    Device,
    Engine,
    Facts,
    Finding,
    Fits,
    LiveSettings,
    Model,
    SourceState,
)
from ocr_wire.engines import BY_NAME, why_missing

GIB = 1 << 30
BFLOAT16_CAPABILITY = (8, 0)
"""Compute capability from which GPUs compute in bfloat16 (`engines.transformers.checkpoints`)."""
NO_DRIVER = "no NVIDIA driver here"
"""Words of `device.nvml` for a machine without one, which is no fault where the CPU is to be used."""
SPARE_BYTES = 1 * GIB
"""What a context and pages take beyond weights of a known size, at least."""


def judge(facts: Facts) -> tuple[Finding, ...]:
    """Return the findings, problems first."""
    found = [
        *_device(facts),
        *_engines(facts.engines),
        *_torch(facts),
        *(finding for model in facts.models for finding in _computing(facts, model)),
        *(finding for model in facts.models for finding in _model(facts, model)),
        *_cache(facts.cache, needed=any(model.source == "to_download" for model in facts.models)),
        *_limits(facts),
        *_access(facts),
        *_live_settings(facts.live_settings),
    ]
    order = ("problem", "warning", "note")
    return tuple(sorted(found, key=lambda each: order.index(each.level)))


def at_start(models: Sequence[tuple[Engine, SourceState]], cache: Cache) -> tuple[tuple[Finding, ...], bool]:
    """Return what keeps models from being loaded, and whether it keeps all of them. A model is its engine, and where
    its files are."""
    engines = {engine.name: engine for engine, _ in models}
    downloads = any(source == "to_download" for _, source in models)
    found = (*_engines(engines.values()), *(_cache(cache, needed=True) if downloads else ()))
    hopeless = [
        engine.missing or (source == "to_download" and cache.problem is not None) for engine, source in models
    ]
    return found, all(hopeless)


def dtype(kind: str | None, capability: tuple[int, int] | None) -> str:
    """Return what `dtype: auto` computes in."""
    if kind != "cuda":
        return "float32"
    return "float16" if capability is not None and capability < BFLOAT16_CAPABILITY else "bfloat16"


def fits(need_bytes: int | None, total_bytes: int, free_bytes: int | None) -> Fits:
    """Return whether a model fits on a device of that size; on one of size 0, a CPU, it isn't bounded."""
    if total_bytes == 0:
        return "yes"
    if need_bytes is None:
        return "unknown"
    if need_bytes > total_bytes:
        return "no"
    return "not_now" if free_bytes is not None and need_bytes > free_bytes else "yes"


def size(nbytes: int) -> str:
    """Return a size in words."""
    return f"{nbytes / GIB:.1f} GiB" if nbytes >= GIB // 10 else f"{nbytes / (1 << 20):.1f} MiB"


def _device(facts: Facts) -> Iterator[Finding]:
    device, driver = facts.device, facts.driver
    if device.problem is not None:
        yield Finding("problem", "device", device.problem)
    elif device.kind == "cpu" and device.requested == "auto":
        if driver.problem is None:
            yield Finding("note", "device", "the CPU is used: no GPU is meant for this process")
        elif NO_DRIVER in driver.problem:
            yield Finding("note", "device", f"{NO_DRIVER}, so the CPU is used")
        else:
            yield Finding("warning", "device", f"the CPU is used: {driver.problem}")


def _engines(engines: Iterable[Engine]) -> Iterator[Finding]:
    for engine in engines:
        if engine.missing:
            yield Finding("problem", "engines", why_missing(engine.name, engine.missing))
        elif engine.problem is not None:
            yield Finding("problem", "engines", f"engine {engine.name}: {engine.problem}")


def _computing(facts: Facts, model: Model) -> Iterator[Finding]:
    engine = next((each for each in facts.engines if each.name == model.engine), None)
    if engine is None or engine.computes_on is None or facts.device.kind is None:
        return
    on = "cuda" if model.on == "cuda" else "cpu"
    if engine.computes_on != on:
        build, way_out = (
            ("a build for GPUs", f"have a GPU, or name a Python that has {engine.name}-cpu")
            if on == "cpu"
            else ("a build for CPUs", "set OCR_DEVICE=cpu, or name a Python that has one for GPUs")
        )
        place = "the CPU" if on == "cpu" else "the GPU"
        message = f"model {model.name} would compute on {place}, and {engine.name} {engine.runs} is {build}"
        yield Finding("problem", "engines", f"{message}: {way_out} ({BY_NAME[engine.name].interpreter})")


def _torch(facts: Facts) -> Iterator[Finding]:
    torch = facts.torch
    if torch is None:
        return
    if torch.problem is not None:
        yield Finding("problem", "torch", torch.problem)
    elif facts.device.kind == "cuda" and torch.cuda_version is None:
        message = f"torch {torch.version} is a build for CPUs: install one for CUDA, or set OCR_DEVICE=cpu"
        yield Finding("problem", "torch", message)


def _model(facts: Facts, model: Model) -> Iterator[Finding]:
    name, device = f"model {model.name}", facts.device
    if model.source == "incomplete":
        yield Finding("problem", "models", f"{name}: {model.source_problem}")
    elif model.source == "to_download":
        where = f"is downloaded to {facts.cache.hub_path} by the first load"
        yield Finding("note", "models", f"{name} {where}, where {_free(facts)} are free")
    if model.on != "cpu":
        yield from _memory(model, device, name)
    if model.weight_bytes is not None and model.weight_bytes > facts.limits.memory_left_bytes:
        yield Finding(
            "problem",
            "models",
            f"{name} has {size(model.weight_bytes)} of weights, which host memory holds, too, and "
            f"{size(facts.limits.memory_left_bytes)} are left: raise the container's memory limit",
        )
    elif model.weight_bytes is not None and model.packed_bytes:
        yield _packing(facts, model.weight_bytes, model.packed_bytes, name)
    if device.kind is not None:
        yield from _precision(facts, model, name)


def _packing(facts: Facts, weight_bytes: int, packed_bytes: int, name: str) -> Finding:
    copy = (
        f"{name} computes with a second copy of its weights, {size(packed_bytes)} at most, while it is ready"
    )
    left = facts.limits.memory_left_bytes
    if weight_bytes + packed_bytes + SPARE_BYTES > left:
        message = f"{copy}; {size(left)} are left, so it may do without and write more slowly"
        return Finding("warning", "models", f"{message}: raise the container's memory limit")
    return Finding("note", "models", f"{copy}; options.pack_weights: false spares it and writes more slowly")


def _limits(facts: Facts) -> Iterator[Finding]:
    if facts.limits.problem is not None:
        yield Finding("problem", "limits", facts.limits.problem)


def _memory(model: Model, device: Device, name: str) -> Iterator[Finding]:
    match model.fits:
        case "unknown" if device.kind is not None:
            message = f"{name}: what it needs isn't known before it is loaded; gpuMemory says it"
            yield Finding("note", "models", message)
        case "no" | "not_now":
            need = f"{name} needs {size(model.need_bytes or 0)} ({model.need_from})"
            if model.fits == "no":
                way_out = "use a smaller model or dtype, another GPU, or OCR_DEVICE=cpu"
                message = f"{need}, and the GPU has {size(device.memory_total_bytes)}: {way_out}"
                yield Finding("problem", "models", message)
            else:
                message = (
                    f"{need}, and {size(device.memory_free_bytes or 0)} are free now: others hold the rest"
                )
                yield Finding("warning", "models", message)
        case "yes" if model.need_from == "checkpoint" and model.need_bytes is not None:
            if model.need_bytes + SPARE_BYTES > device.memory_total_bytes:
                message = f"{name}: its weights leave less than {size(SPARE_BYTES)} of the GPU for pages"
                yield Finding("warning", "models", message)


def _precision(facts: Facts, model: Model, name: str) -> Iterator[Finding]:
    auto = facts.device.dtype if model.on == facts.device.kind else "float32"
    if model.dtype == "bfloat16" and model.on == "cuda" and auto == "float16":
        message = f"{name}: this GPU computes in bfloat16 slowly or not at all; dtype auto is float16 here"
        yield Finding("warning", "models", message)
    if model.attention == "flash_attention_2":
        computed = auto if model.dtype == "auto" else model.dtype
        if model.on != "cuda" or computed == "float32":
            yield Finding(
                "warning", "models", f"{name}: flash_attention_2 needs a GPU and half precision: sdpa is used"
            )
        elif facts.torch is not None and facts.torch.flash_attention is None:
            message = (
                f"{name}: flash-attn isn't installed, so sdpa is used: pip install 'ocr-operator[flash-attn]'"
            )
            yield Finding("warning", "models", message)


def _cache(cache: Cache, *, needed: bool) -> Iterator[Finding]:
    if cache.problem is not None:
        message = f"{cache.problem}: give it to that user (chown), or set OCR_CACHE_DIR to another folder"
        yield Finding("problem" if needed else "warning", "cache", message)


def _access(facts: Facts) -> Iterator[Finding]:
    if facts.port.problem is not None:
        yield Finding("problem", "port", facts.port.problem)
    if facts.port.served:
        yield Finding("note", "port", f"a server of this program serves at port {facts.port.port} already")
    for tokens in facts.tokens:
        if tokens.problem is not None:
            so = "the other tokens count" if tokens.usable else "its calls are closed"
            message = f"{tokens.variable}: {tokens.problem} ({tokens.path}): {so}"
            yield Finding("warning" if tokens.usable else "problem", "tokens", message)
    variables = {tokens.variable for tokens in facts.tokens}
    if variables == {"OCR_API_KEYS_FILE"}:
        message = "controls are closed: OCR_API_KEYS_FILE is set, OCR_ADMIN_TOKEN_FILE isn't"
        yield Finding("warning", "tokens", message)


def _free(facts: Facts) -> str:
    free = facts.cache.free_bytes
    return "an unknown number of bytes" if free is None else size(free)


def _live_settings(found: LiveSettings | None) -> Iterator[Finding]:
    if found is None:
        return
    variable, subject = "OCR_LIVE_SETTINGS_FILE", "live_settings"
    if found.problem is not None:
        message = f"{variable}: {found.problem} ({found.path}): the server would start by its defaults"
        yield Finding("warning", subject, message)
    elif not found.is_there:
        message = f"{variable}: {found.path} isn't there, so nothing is declared yet"
        yield Finding("note", subject, message)
    elif found.ignored:
        keys = ", ".join(found.ignored)
        yield Finding("warning", subject, f"{variable}: this version doesn't know {keys}, and ignores it")
