"""Tokens a second of 16 pages at once: our server with engines `vllm` and `transformers`, beside vLLM's own server."""

import asyncio
import base64
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench import report, server
from bench.decoding import PAGES, SIDE, SIZES, TOKENS, page
from ocr_inference.families import chat
from ocr_wire import names
from ocr_wire.tasks import Task
from tests.support.paths import ROOT

PAIRS: Final = int(os.environ.get("BENCH_BATCHED_PAIRS", "5"))
PYTHON: Final = os.environ.get("OCR_VLLM_PYTHON") or str(ROOT / ".venv-vllm/bin/python")
SIDES: Final = ("vllm through our server", "vllm by itself", "transformers through our server")
OVERHEAD: Final = 0.97
AHEAD: Final = 1.15
START_SECONDS: Final = 900
MODEL_TYPE: Final = "qwen2_5_vl"

Read = Callable[[int], Awaitable[int]]
"""Reads the page of this number; returns the tokens of its answer."""


@asynccontextmanager
async def ours(folder: Path, engine: str, options: Mapping[str, object]) -> AsyncIterator[Read]:
    model = {
        "name": "m",
        "engine": engine,
        "source": {"path": str(folder / "model")},
        "dtype": "float32",
        "options": dict(options),
    }
    config = {
        "models": [model],
        "batching": {"maxPages": PAGES},
        "queue": {"deadlineSeconds": 3600},
        "idle": server.NO_TIMERS,
    }
    file = folder / f"{engine}.json"
    file.write_text(json.dumps(config))
    told = os.environ | {
        names.ENV_DEVICE: "cpu",
        names.ENV_CACHE_DIR: str(folder / "cache"),
        "OCR_VLLM_PYTHON": PYTHON,
    }
    async with server.started(told, "--config", str(file)) as (url, _), _client(url) as http:

        async def read(number: int) -> int:
            form = aiohttp.FormData(
                {"prompt_type": "free", "max_tokens": str(TOKENS), "loop_guard": "false"},
                default_to_multipart=True,
            )
            form.add_field("file", page(number), filename="page.png")
            async with http.post("/ocr", data=form) as answer:
                body = await answer.json()
                assert answer.status == 200, body
                tokens: int = body["metadata"]["completion_tokens"]
                return tokens

        yield read


@asynccontextmanager
async def by_itself(folder: Path) -> AsyncIterator[Read]:
    """vLLM's own server with the same model, memory for as many pages, and no more threads than ours."""
    port, home = server.free_port(), folder / "home"
    home.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    told = kept | {
        "HOME": str(home),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    with (folder / "vllm.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder / "model")),
            *("--served-model-name", "m", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"),
            *("--max-num-seqs", str(PAGES), "--enforce-eager", "--generation-config", "vllm"),
            env=told, cwd=folder, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    words = chat.prompt(MODEL_TYPE, Task.FREE, "")
    try:
        async with _client(f"http://127.0.0.1:{port}") as http:
            await _healthy(http, process)

            async def read(number: int) -> int:
                url = "data:image/png;base64," + base64.b64encode(page(number)).decode()
                content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}}]
                if words:
                    content.append({"type": "text", "text": words})
                asked = {
                    "model": "m",
                    "messages": [{"role": "user", "content": content}],
                    "max_tokens": TOKENS,
                    "temperature": 0.0,
                }
                async with http.post("/v1/chat/completions", json=asked) as answer:
                    body = await answer.json()
                    assert answer.status == 200, body
                    tokens: int = body["usage"]["completion_tokens"]
                    return tokens

            yield read
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _healthy(http: aiohttp.ClientSession, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(START_SECONDS):
        while process.returncode is None:
            try:
                async with http.get("/health") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.5)
    raise RuntimeError(f"vLLM ended with {process.returncode}")


def _client(url: str) -> aiohttp.ClientSession:
    # vLLM closes connections after 5 s without a request.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=None), connector=connector)


async def _rate(read: Read, turn: int) -> float:
    """Tokens a second of pages that no turn before had."""
    began = time.perf_counter()
    written = await asyncio.gather(*(read(turn * PAGES + number) for number in range(PAGES)))
    return sum(written) / (time.perf_counter() - began)


async def measure() -> report.Result:
    if not os.access(PYTHON, os.X_OK):
        raise report.NotHere("no vLLM here: make init-vllm, or name its Python by OCR_VLLM_PYTHON")
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        await _make(folder)
        async with AsyncExitStack() as stack:
            sides = {
                SIDES[0]: await stack.enter_async_context(
                    ours(folder, "vllm", {"kv_cache_gib": 1, "max_batch": PAGES})
                ),
                SIDES[1]: await stack.enter_async_context(by_itself(folder)),
                SIDES[2]: await stack.enter_async_context(ours(folder, "transformers", {})),
            }
            for read in sides.values():
                await _rate(read, 0)  # loads, and what is made at the first page
            for turn in range(1, PAIRS + 1):
                for side in SIDES if turn % 2 else SIDES[::-1]:
                    rates[side].append(await _rate(sides[side], turn))
        load.append(os.getloadavg()[0])
    through, alone, own = (rates[side] for side in SIDES)
    return report.Result(
        name="batched",
        method=f"{PAIRS} turns of three servers with a model of about 200 million parameters in the shape of "
        f"{MODEL_TYPE}, random weights, float32, {os.cpu_count()} cores: {PAGES} pages of {SIDE} x {SIDE} pixels at "
        f"once, {TOKENS} tokens each at most, other pages in each turn. All three run meanwhile, one is asked. Ratios "
        f"are medians of the turns' ratios. Load average before and after: {load[0]:.1f}, {load[1]:.1f}.",
        rows=[
            report.at_least(f"{SIDES[0]} ÷ {SIDES[1]}", _ratio(through, alone), "×", OVERHEAD),
            report.at_least(f"{SIDES[2]} ÷ {SIDES[1]}", _ratio(own, alone), "×", AHEAD),
            *(report.plain(f"{side}, tokens a second", report.median(rates[side]), "1/s") for side in SIDES),
        ],
        samples=dict(rates),
    )


def _ratio(over: list[float], under: list[float]) -> float:
    return report.median([one / other for one, other in zip(over, under, strict=True)])


async def _make(folder: Path) -> None:
    """The model, by a process that ends: this one needs no torch."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.batched", str(folder / "model")
    )
    if await process.wait() != 0:
        raise RuntimeError("the model couldn't be made")


def main(folder: Path) -> None:
    from tests.support import chatmodels  # noqa: PLC0415 - torch

    folder.mkdir()
    chatmodels.make(folder, MODEL_TYPE, dtype="float32", sizes=dict(SIZES))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
