"""What servers take that nobody uses, ours and others: memory of all processes, and how often they wake the CPU.

Each is looked at as it is after its start, and with the same tiny model where it takes one. llama-swap and Ollama are
looked at where they are on the PATH: neither is in a registry of packages as a program. llama-swap is built by
`go build` in a clone. Our forkserver leaves its memory to a file only where the disk has 15 % left after that.
"""

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench import batched, chatpages, foreign, idle, others, report, server, transformersserve, vllmalone
from bench.idle import Resting
from ocr_wire import names
from ocr_wire.states import DeviceKind, State

ROUNDS: Final = int(os.environ.get("BENCH_PEERS_ROUNDS", "2"))
DOCLING: Final = ("docling-serve==1.38.2",)
SETTLED_SECONDS: Final = 60
"""Some are never quite at rest."""
TIMEOUT: Final = 5
"""Seconds after which `transformers serve` unloads its model; its default is 300."""
TOKENS: Final = 16
START_SECONDS: Final = 300
OURS: Final = "ours, engine transformers"
CONFIG: Final = "models: [{{name: m, engine: transformers, source: {{path: {folder}}}, dtype: float32}}]\n"


class Looks:
    """What was seen, by server and state."""

    def __init__(self) -> None:
        self.found: dict[str, list[Resting]] = {}

    async def add(self, what: str, pid: int, host_bytes: int = 0) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_SECONDS):
                await idle.settled(pid)
        self.found.setdefault(what, []).append(await idle.resting(pid, host_bytes))


async def _read(url: str, model: str, **more: object) -> None:
    async with chatpages.client(url) as http:
        await chatpages.tokens_of(http, chatpages.asked(model, batched.MODEL_TYPE, 1, TOKENS) | more)


async def _ours(looks: Looks, folder: Path) -> None:
    environ = dict(os.environ) | {
        names.ENV_CACHE_DIR: str(folder / "cache"),
        names.ENV_DEVICE: DeviceKind.CPU,
    }
    async with idle.served(CONFIG.format(folder=folder / "model"), environ) as (sleeper, pid):
        await looks.add(f"{OURS}: started", pid)
        await _read(sleeper.url, "m", ocr={"task": "free"})
        await looks.add(f"{OURS}: model ready", pid)
        await sleeper.sleep(deep=True)
        await looks.add(f"{OURS}: deep idle, with a standby", pid)
        await sleeper.declare(dropStandbyAfterSeconds=0)
        (model,) = (await sleeper.state())["models"]
        await looks.add(f"{OURS}: deep idle, without one", pid, int(model["host_bytes"]))
        await sleeper.declare(releaseAfterSeconds=0)
        await sleeper.until(state=State.UNLOADED)
        await looks.add(f"{OURS}: released", pid)


async def _transformers(looks: Looks, folder: Path) -> None:
    name, model = "transformers serve", str(folder / "model")
    async with transformersserve.started(folder, "--model-timeout", str(TIMEOUT)) as (url, process):
        await looks.add(f"{name}: started", process.pid)
        await _read(url, model)
        await asyncio.sleep(TIMEOUT + 1)
        await looks.add(f"{name}: its model unloaded", process.pid)
    async with transformersserve.started(folder, model) as (url, process):
        await _read(url, model)
        await looks.add(f"{name}: model ready", process.pid)


async def _vllm(looks: Looks, folder: Path) -> None:
    if os.access(vllmalone.PYTHON, os.X_OK):
        async with vllmalone.started(folder, pages=16) as (url, process):
            await _read(url, vllmalone.MODEL)
            await looks.add("vLLM: model ready, 1 GiB for pages; a CPU has no sleep", process.pid)


async def _docling(looks: Looks, folder: Path) -> None:
    programs, port = (
        await asyncio.to_thread(foreign.environment, "docling-serve", DOCLING),
        server.free_port(),
    )
    told = os.environ | {
        "DOCLING_SERVE_LOAD_MODELS_AT_BOOT": "false",
        "HF_HUB_OFFLINE": "1",
        "HOME": str(folder),
    }
    command = (str(programs / "docling-serve"), "run", "--host", "127.0.0.1", "--port", str(port))
    async with others.started(command, told, folder, port, START_SECONDS) as (_, process):
        await looks.add("docling-serve: started", process.pid)


async def _swap(looks: Looks, folder: Path) -> None:
    if (program := shutil.which("llama-swap")) is not None:
        port, config = server.free_port(), folder / "llama-swap.yaml"
        config.write_text(json.dumps({"models": {"m": {"cmd": "false --port ${PORT}"}}}))
        command = (program, "-config", str(config), "-listen", f"127.0.0.1:{port}")
        async with others.started(command, os.environ, folder, port, START_SECONDS) as (
            _,
            process,
        ):
            await looks.add("llama-swap: started", process.pid)


async def _ollama(looks: Looks, folder: Path) -> None:
    if (program := shutil.which("ollama")) is not None:
        port = server.free_port()
        told = os.environ | {"OLLAMA_HOST": f"127.0.0.1:{port}", "HOME": str(folder)}
        command = (program, "serve")
        async with others.started(command, told, folder, port, START_SECONDS) as (_, process):
            await looks.add("Ollama: started", process.pid)


async def measure() -> report.Result:
    looks = Looks()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.peers", str(folder / "model")
        )
        if await made.wait() != 0:
            raise RuntimeError("the model couldn't be made")
        sides = (_ours, _transformers, _vllm, _docling, _swap, _ollama)
        for turn in range(ROUNDS):
            for side in sides if turn % 2 else sides[::-1]:
                await side(looks, folder)
    return report.Result("peers", _method(), _rows(looks.found), _samples(looks.found))


def _rows(found: Mapping[str, Sequence[Resting]]) -> list[report.Row]:
    def mib(what: str) -> float:
        return report.median([each.mib for each in found[what]])

    compared = (
        ("without a model: ours, started ÷ transformers serve, started", "started", "started"),
        ("its model unloaded: ours ÷ transformers serve", "released", "its model unloaded"),
        ("with a model: ours, ready ÷ transformers serve", "model ready", "model ready"),
        ("with a model: ours, in deep idle ÷ transformers serve", "deep idle, with a standby", "model ready"),
    )
    return [
        *(
            report.at_most(what, mib(f"{OURS}: {one}") / mib(f"transformers serve: {other}"), "×", 1)
            for what, one, other in compared
        ),
        *(report.plain(what, mib(what), "MiB") for what in sorted(found)),
        *(
            report.plain(f"{what}: wake-ups", report.median([each.wakes for each in found[what]]), "1/s")
            for what in sorted(found)
        ),
    ]


def _samples(found: Mapping[str, Sequence[Resting]]) -> dict[str, Sequence[float]]:
    samples: dict[str, Sequence[float]] = {}
    for what, rests in found.items():
        samples[f"{what}, MiB"] = [each.mib for each in rests]
        samples[f"{what}, wake-ups/s"] = [each.wakes for each in rests]
    return samples


def _method() -> str:
    return (
        f"{ROUNDS} starts of each server, one after another, by turns in the other order, on the CPU. Each is looked at"
        f" for {idle.REST_SECONDS:g} s after a second without CPU time, or after {SETTLED_SECONDS} s: voluntary context"
        " switches of all threads of all processes, and at the end the sum of their proportional set sizes (PSS of"
        " smaps_rollup), with weights in host memory that no process has mapped. What our forkserver leaves to a file"
        " on the disk (0.4 GB, and as much of the system's cache until that is needed) is in no figure but where a"
        " process has it mapped and in memory. A model is one of less than 2 million"
        f" parameters in the shape of {batched.MODEL_TYPE}, float32, that has read a page. transformers serve is that"
        f" of the transformers of our own engine, and unloads after {TIMEOUT} s here. docling-serve is of"
        f" {DOCLING[0]}, with DOCLING_SERVE_LOAD_MODELS_AT_BOOT=false; its models come from a hub, so it has none."
        " llama-swap and Ollama have no model and start none: they are what stays when theirs has been ended."
    )


def main(folder: Path) -> None:
    from tests.support import chatmodels  # noqa: PLC0415 - torch

    folder.mkdir()
    # So small that its weights count for nothing.
    sizes = dict(chatmodels.WIDE_HEADS)
    chatmodels.make(folder, batched.MODEL_TYPE, dtype="float32", sizes=sizes, tie_word_embeddings=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
