"""Engines, by their names in `ocr_wire.engines`. Only worker processes import their modules, and with them libraries.

- `rapidocr`: PP-OCR on the CPU.
- `transformers`: vision-language models.
- `fake`: declared timings and faults, for tests.
- `pictures`: pages decoded for all engines.
"""

import importlib
from typing import cast

from ocr_inference.protocol.engine import Engine, EngineError, Failure, FailureKind, ModelSpec, Report
from ocr_inference.protocol.host_tier import HostTier
from ocr_wire import engines


def create(spec: ModelSpec, host: HostTier, report: Report = lambda _: None) -> Engine:
    """Make the engine of a model; raises `EngineError` with the way out where its libraries aren't installed."""
    info = engines.BY_NAME.get(spec.engine)
    if info is None:
        message = f"model {spec.name}: no engine {spec.engine!r}; there are {', '.join(engines.NAMES)}"
        raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message))
    try:
        module = importlib.import_module(info.module)
    except ImportError as error:
        message = f"engine {spec.engine} is not installed ({error}); pip install 'ocr-operator[{info.extra}]'"
        raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message)) from error
    return cast("Engine", module.create(spec, host, report))
