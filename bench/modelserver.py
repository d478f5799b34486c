"""Our server of one vision-language model on the CPU, in a process of its own."""

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from bench import server, vllmalone
from ocr_wire import names
from ocr_wire.states import DeviceKind

NAME: Final = "m"
"""Of the model."""


@asynccontextmanager
async def served(
    model: Path,
    engine: str,
    options: Mapping[str, object],
    *,
    pages: int,
    environ: Mapping[str, str] | None = None,
    idle: Mapping[str, float] = server.NO_TIMERS,
) -> AsyncIterator[tuple[str, int]]:
    """Yields its address and process id. It reads so many pages at once, in float32, and nothing ends by a timer. Its
    configuration and cache are beside the model's folder, the configuration by the engine and its options. `environ`
    is added to the environment; `idle` is for builds that know other timers."""
    described = {
        "name": NAME,
        "engine": engine,
        "source": {"path": str(model)},
        "dtype": "float32",
        "options": dict(options),
    }
    config = {
        "models": [described],
        "batching": {"maxPages": pages},
        "queue": {"deadlineSeconds": 3600},
        "idle": dict(idle),
    }
    file = model.parent / f"{'-'.join((engine, *map(str, options.values())))}.json"
    file.write_text(json.dumps(config))
    told = {**os.environ, **(environ or {})} | {
        names.ENV_DEVICE: DeviceKind.CPU,
        names.ENV_CACHE_DIR: str(model.parent / "cache"),
        "OCR_VLLM_PYTHON": vllmalone.PYTHON,
    }
    async with server.started(told, "--config", str(file)) as (url, process):
        yield url, process.pid
