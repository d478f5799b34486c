"""The engines by name. Only a worker process imports an engine's own module, and with it its libraries."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from ocr_inference.protocol.engine import Engine, EngineError, Failure, FailureKind, ModelSpec, Report
from ocr_inference.protocol.host_tier import HostTier


@dataclass(frozen=True)
class EngineInfo:
    module: str
    """Has `create(spec, host, report) -> Engine`."""
    extra: str
    """The extra of the distribution that brings its libraries."""
    uses_cuda: bool = False
    """Computes on a CUDA device where there is one; others stay in host memory beside it."""
    stands_by: bool = False
    """`Engine.stand_by` takes so long that a process is worth having that has done it before a wake from deep idle."""


ENGINES: Mapping[str, EngineInfo] = {
    "rapidocr": EngineInfo("ocr_inference.engines.rapidocr", extra="rapidocr"),
    "transformers": EngineInfo(
        "ocr_inference.engines.transformers.engine", extra="transformers", uses_cuda=True, stands_by=True
    ),
    "fake": EngineInfo("ocr_inference.engines.fake", extra="inference"),
}


def create(spec: ModelSpec, host: HostTier, report: Report = lambda _: None) -> Engine:
    """The engine of a model; raises `EngineError` that names the way out where it can't be had."""
    info = ENGINES.get(spec.engine)
    if info is None:
        message = f"model {spec.name}: no engine {spec.engine!r}; there are {', '.join(ENGINES)}"
        raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message))
    try:
        module = importlib.import_module(info.module)
    except ImportError as error:
        message = f"engine {spec.engine} is not installed ({error}); pip install 'ocr-operator[{info.extra}]'"
        raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message)) from error
    return cast("Engine", module.create(spec, host, report))
