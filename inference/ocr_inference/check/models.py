"""Reads what the configured models need: libraries, checkpoints on the disk, memory."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from ocr_inference import engines
from ocr_inference.check import verdict
from ocr_inference.check.facts import Device, Engine, Model, SourceState
from ocr_inference.checkpoints.sources import cache, checking
from ocr_inference.config.settings import Config, ModelConfig
from ocr_inference.protocol.engine import EngineError
from ocr_wire.engines import BY_NAME, with_defaults

Need = Literal["gpuMemory", "checkpoint"]


def installed(config: Config, environ: Mapping[str, str]) -> Iterator[Engine]:
    """Yield the engines of the models, with the libraries that they lack. Imports none of them."""
    for name in dict.fromkeys(model.engine for model in config.models):
        yield Engine(name=name, missing=engines.missing(name, environ), extra=BY_NAME[name].extra)


def read(model: ModelConfig, device: Device, environ: Mapping[str, str], cache_dir: Path) -> Model:
    """Read a model's sizes, without asking a hub."""
    source, problem, weight_bytes = find(model, environ, cache_dir)
    kind = device.kind or device.requested
    on = "cpu" if kind == "cuda" and not BY_NAME[model.engine].uses_cuda else kind
    need, need_from = (None, None) if on == "cpu" else _need(model, weight_bytes)
    total = 0 if on == "cpu" else device.memory_total_bytes
    known = on == "cpu" or device.kind is not None
    return Model(
        name=model.name,
        engine=model.engine,
        on=on,
        need_bytes=need,
        need_from=need_from,
        weight_bytes=weight_bytes,
        packed_bytes=weight_bytes if on == "cpu" and _packs(model) else 0,
        fits=verdict.fits(need, total, device.memory_free_bytes) if known else "unknown",
        source=source,
        source_problem=problem,
        dtype=model.dtype,
        attention=model.attention,
    )


def _packs(model: ModelConfig) -> bool:
    wanted = with_defaults(model.engine, model.options).get("pack_weights", False)
    return bool(wanted) and model.dtype in ("auto", "float32")


def _need(model: ModelConfig, weight_bytes: int | None) -> tuple[int | None, Need | None]:
    if (declared := model.gpu_memory_bytes) is not None:
        return declared, "gpuMemory"
    return weight_bytes, None if weight_bytes is None else "checkpoint"


def find(
    model: ModelConfig, environ: Mapping[str, str], cache_dir: Path
) -> tuple[SourceState, str | None, int | None]:
    """Return whether a model's files are here, what is wrong with them, and the size of its weights."""
    source = model.source
    if source is None:
        return "not_needed", None, None
    if source.path is not None:
        return _folder(Path(source.path))
    assert source.hugging_face is not None
    hub = source.hugging_face
    place = cache.Place(cache.location(environ, cache_dir), hub.repo)
    commit = place.pinned(hub.revision)
    if commit is None or place.problem(commit) is not None:
        return "to_download", None, None
    return _folder(place.folder(commit))


def _folder(folder: Path) -> tuple[SourceState, str | None, int | None]:
    try:
        weights = checking.check(folder).weights
        return "complete", None, sum((folder / name).stat().st_size for name in weights)
    except EngineError as error:
        return "incomplete", error.failure.message, None
    except OSError as error:
        return "incomplete", f"{folder} can't be read: {error.strerror}", None
