"""A real server of tiny language models in a process of its own, and what the system tells of it."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench import server
from ocr_wire import names

MODELS: Final = ("deepseek", "glm")
DEVICE_BYTES: Final = 1 << 30


def resident(pid: int) -> int:
    """Bytes of a process's own memory that are there. Files that it maps are the system's to drop, and host tiers are
    counted elsewhere."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def opened(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def offspring(pid: int) -> list[int]:
    """Its child processes and theirs, as far as they live while this looks."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *offspring(int(child))]
    return found


def config(folder: Path) -> dict[str, Any]:
    """One of the models fits on the device at a time."""
    return {
        "models": [
            {
                "name": name,
                "engine": "transformers",
                "source": {"path": str(folder / name)},
                "gpuMemory": DEVICE_BYTES,
                "options": {"threads": 1},
            }
            for name in MODELS
        ],
        "queue": {"limit": 1000, "patienceSeconds": 0.05, "deadlineSeconds": 3600},
        "idle": server.NO_TIMERS,
    }


@contextlib.asynccontextmanager
async def served(
    folder: Path, device: str
) -> AsyncIterator[tuple[aiohttp.ClientSession, asyncio.subprocess.Process]]:
    gpu = {"uuid": "GPU-storm", "product": "NVIDIA-L40S", "memory_bytes": DEVICE_BYTES}
    (folder / "gpus.json").write_text(json.dumps([gpu]))
    (folder / "config.yaml").write_text(json.dumps(config(folder)))
    told = {
        names.ENV_CACHE_DIR: str(folder / "cache"),
        names.ENV_DEVICE: device,
        names.ENV_SIMULATED_GPU_DIR: str(folder),
    }
    unlimited = aiohttp.ClientTimeout(total=None)
    arguments = ("--config", str(folder / "config.yaml"))
    async with server.started(os.environ | told, *arguments, stderr=asyncio.subprocess.PIPE) as (
        url,
        process,
    ):
        connections = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(url, timeout=unlimited, connector=connections) as http:
            yield http, process


def make(folder: Path) -> None:
    """The checkpoints."""
    from tests.support import chatmodels, checkpoints  # noqa: PLC0415 - torch, which other measurements don't need

    for name in MODELS:
        (folder / name).mkdir()
    checkpoints.make_deepseek_ocr(folder / "deepseek")
    chatmodels.make(folder / "glm", "glm_ocr")
