"""Deep idle: what is left on the device, how long the first answer takes, and whether it is slower to compute.

`OCR_BENCH_CONFIG` names a configuration FILE whose first model is measured. Without it: on a CUDA device, DeepSeek-OCR
at its published size with random weights, which takes as long to wake and to write as the real one; elsewhere
rapidocr on the CPU, and a tiny DeepSeek-OCR where transformers is installed.
"""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench import report, server, storm

CPU: Final = "models: [{name: pp-ocr, engine: rapidocr}]\n"
VLM: Final = (
    "models: [{{name: deepseek-ocr, engine: transformers, source: {{path: {folder}}}, gpuMemory: 12Gi}}]\n"
)
LIVE: Final = """
queue: {limit: 1000, deadlineSeconds: 3600}
idle: {offloadAfterSeconds: -1, exitAfterSeconds: -1, releaseAfterSeconds: -1}
"""
ROUNDS: Final = 12
STEADY: Final = 3
"""Pages before each wake, all of which count for the steady state."""
CROWD: Final = 200


@dataclass
class Samples:
    steady: list[float] = field(default_factory=list)
    """Seconds in the engine, of pages that a ready model reads."""
    after_offload: list[float] = field(default_factory=list)
    """Seconds in the engine, of the first page after a wake from host memory."""
    after_exit: list[float] = field(default_factory=list)
    """The same, after the worker process had exited."""
    wake_offloaded: list[float] = field(default_factory=list)
    """Seconds of the restore itself."""
    wake_exited: list[float] = field(default_factory=list)
    answer_steady: list[float] = field(default_factory=list)
    """Seconds from sending a page to its whole answer."""
    answer_offloaded: list[float] = field(default_factory=list)
    answer_exited: list[float] = field(default_factory=list)
    first_piece: list[float] = field(default_factory=list)
    """Seconds from sending a page to an exited model to the first piece of its answer."""


class Sleeper:
    """A server process with one model, and what the measurement does to it."""

    def __init__(self, http: aiohttp.ClientSession, url: str, model: str, page: bytes) -> None:
        self.http = http
        self.url = url
        self.model = model
        self.page = page
        self._revision = 0

    async def read(self) -> tuple[float, float]:
        """Seconds until the answer, and seconds in the engine."""
        asked = {"prompt_type": "ocr", "model": self.model, "max_tokens": "32", "resolution": "tiny"}
        form = aiohttp.FormData(asked)
        form.add_field("file", self.page, filename="page.png", content_type="image/png")
        began = time.perf_counter()
        async with self.http.post(f"{self.url}/ocr", data=form) as answer:
            body = await answer.json()
            answer.raise_for_status()
        return time.perf_counter() - began, float(body["metadata"]["engine_seconds"])

    async def first_piece(self) -> float:
        """Seconds until the answer begins to come."""
        picture = "data:image/png;base64," + base64.b64encode(self.page).decode()
        content = [{"type": "image_url", "image_url": {"url": picture}}]
        asked = {
            "model": self.model,
            "stream": True,
            "max_tokens": 32,
            "messages": [{"role": "user", "content": content}],
            "ocr": {"task": "ocr", "resolution": "tiny"},
        }
        began = time.perf_counter()
        async with self.http.post(f"{self.url}/v1/chat/completions", json=asked) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    choice = json.loads(line[6:])["choices"][0]
                    if choice["delta"].get("content") or choice["finish_reason"]:
                        return time.perf_counter() - began
        raise RuntimeError("the answer ended before it began")

    async def declare(self, **idle: float) -> None:
        self._revision += 1
        values = {
            "idle": {"offloadAfterSeconds": -1, "exitAfterSeconds": -1, "releaseAfterSeconds": -1} | idle
        }
        wanted = {"generation": 1, "revision": self._revision, "values": values}
        async with self.http.put(f"{self.url}/v1/settings", json=wanted) as answer:
            answer.raise_for_status()

    async def sleep(self, *, deep: bool) -> None:
        """Offload; when `deep`, let the worker exit, too. Returns when that is done, with timers off."""
        await self.declare(**({"exitAfterSeconds": 0} if deep else {"offloadAfterSeconds": 0}))
        wanted = {"state": "offloaded", "worker": "exited" if deep else "running"}
        await self.until(**wanted)
        await self.declare()

    async def state(self) -> dict[str, Any]:
        async with self.http.get(f"{self.url}/v1/state") as answer:
            body: dict[str, Any] = await answer.json()
        return body

    async def until(self, **wanted: object) -> None:
        timeout = aiohttp.ClientTimeout(total=300)
        async with self.http.get(f"{self.url}/v1/state?watch=true", timeout=timeout) as answer:
            async for line in answer.content:
                if line.startswith(b"data:") and wanted.items() <= self._of(json.loads(line[5:])).items():
                    return
        raise RuntimeError(f"the server ended before its model had {wanted}")

    async def last_wake(self) -> float:
        return float(self._of(await self.state())["last_wake_seconds"])

    def _of(self, state: dict[str, Any]) -> dict[str, Any]:
        return next(model for model in state["models"] if model["name"] == self.model)


@contextlib.asynccontextmanager
async def sleeper(config: str, environ: dict[str, str]) -> AsyncIterator[Sleeper]:
    """Started, and its model loaded once."""
    timeout = aiohttp.ClientTimeout(total=600)
    unlimited = aiohttp.TCPConnector(limit=0)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(config + LIVE)
        file.flush()
        async with (
            aiohttp.ClientSession(connector=unlimited, timeout=timeout) as http,
            started(http, file.name, environ) as url,
        ):
            async with http.get(f"{url}/v1/models") as answer:
                model = (await answer.json())["data"][0]["id"]
            found = Sleeper(http, url, model, storm.page(1))
            await found.read()
            yield found


@contextlib.asynccontextmanager
async def started(http: aiohttp.ClientSession, config: str, environ: dict[str, str]) -> AsyncIterator[str]:
    port = server.free_port()
    arguments = ("serve", "--config", config, "--host", "127.0.0.1", "--port", str(port))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ocr_inference", *arguments),
        env=environ,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await server.answers(http, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def rounds(sleeper: Sleeper) -> Samples:
    """Steady pages, a wake from host memory, steady pages, a wake from deep idle, and again."""
    samples = Samples()
    for _ in range(ROUNDS):
        for deep in (False, True):
            for _ in range(STEADY):
                waited, engine = await sleeper.read()
                samples.answer_steady.append(waited)
                samples.steady.append(engine)
            await sleeper.sleep(deep=deep)
            waited, engine = await sleeper.read()
            wake = await sleeper.last_wake()
            (samples.answer_exited if deep else samples.answer_offloaded).append(waited)
            (samples.after_exit if deep else samples.after_offload).append(engine)
            (samples.wake_exited if deep else samples.wake_offloaded).append(wake)
        await sleeper.sleep(deep=True)
        samples.first_piece.append(await sleeper.first_piece())
    return samples


async def crowd(sleeper: Sleeper) -> tuple[int, int]:
    """Wakes, and pages answered, of CROWD requests at once to a model in deep idle."""
    await sleeper.sleep(deep=True)
    before = (await sleeper.state())["models"][0]["wakes"]
    answers = await asyncio.gather(*(sleeper.read() for _ in range(CROWD)), return_exceptions=True)
    wakes = (await sleeper.state())["models"][0]["wakes"] - before
    return wakes, sum(not isinstance(answer, BaseException) for answer in answers)


async def gpu_mib() -> list[int] | None:
    """MiB in use on each GPU by NVML, as `nvidia-smi` says it; None without a driver."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
    process = await asyncio.create_subprocess_exec(*query, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    return [int(line) for line in told.split()] if process.returncode == 0 else None


async def measure() -> report.Result:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environ = dict(os.environ) | {"OCR_CACHE_DIR": str(folder / "cache")}
        if given := environ.get("OCR_BENCH_CONFIG"):
            return await on(await asyncio.to_thread(Path(given).read_text), environ)
        if await gpu_mib() is not None:
            await checkpoint(folder / "checkpoint", "published")
            return await on(VLM.format(folder=folder / "checkpoint"), environ | {"OCR_DEVICE": "cuda"})
        environ |= {"OCR_DEVICE": "cpu"}
        found = await on(CPU, environ)
        if find_spec("transformers") is None:
            return found
        await checkpoint(folder / "checkpoint", "tiny")
        return both(found, await on(VLM.format(folder=folder / "checkpoint"), environ))


async def checkpoint(folder: Path, size: str) -> None:
    made = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.checkpoint", str(folder), size)
    if await made.wait() != 0:
        raise RuntimeError("no checkpoint came of it; its own output says why")


def both(pp_ocr: report.Result, tiny: report.Result) -> report.Result:
    named = {"pp-ocr": pp_ocr, "tiny deepseek-ocr": tiny}
    return report.Result(
        "wake",
        " --- ".join(f"{name}: {result.method}" for name, result in named.items()),
        [replace(row, what=f"{name}: {row.what}") for name, result in named.items() for row in result.rows],
        {f"{name}: {key}": each for name, result in named.items() for key, each in result.samples.items()},
    )


async def on(config: str, environ: dict[str, str]) -> report.Result:
    empty = await gpu_mib()
    async with sleeper(config, environ) as asleep:
        samples = await rounds(asleep)
        wakes, answered = await crowd(asleep)
        await asleep.sleep(deep=True)
        deep = await gpu_mib()
        state = await asleep.state()
    directly = []
    async with sleeper(config, environ | {"OCR_NURSERY": "off"}) as asleep:
        for _ in range(STEADY):
            await asleep.sleep(deep=True)
            directly.append((await asleep.read())[0])
    gpu = state["device"]["kind"] == "cuda"
    rows = (*_rows(samples, directly, gpu=gpu), *_crowd_rows(wakes, answered), *_gpu_rows(empty, deep))
    kept = {name: getattr(samples, name) for name in Samples.__dataclass_fields__} | {"directly": directly}
    accelerator = str(state["device"]["product"]) if gpu else "none"
    return report.Result("wake", _method(state), rows, kept, accelerator)


def _rows(samples: Samples, directly: Sequence[float], *, gpu: bool) -> tuple[report.Row, ...]:
    steady, first = report.median(samples.steady), report.median(samples.first_piece) * 1000
    piece = "exited → first piece of the answer, median"
    return (
        report.plain("a page by a ready model, median", report.median(samples.answer_steady) * 1000, "ms"),
        report.plain("offloaded → answer, median", report.median(samples.answer_offloaded) * 1000, "ms"),
        report.plain("exited → answer, median", report.median(samples.answer_exited) * 1000, "ms"),
        report.plain("exited → answer, p95", report.percentile(samples.answer_exited, 0.95) * 1000, "ms"),
        report.at_most(piece, first, "ms", 2000) if gpu else report.plain(piece, first, "ms"),
        report.plain("exited → answer without a nursery, median", report.median(directly) * 1000, "ms"),
        report.plain("of it the wake: offloaded, median", report.median(samples.wake_offloaded) * 1000, "ms"),
        report.plain("of it the wake: exited, median", report.median(samples.wake_exited) * 1000, "ms"),
        report.at_most(
            "first page after a wake ÷ steady, in the engine",
            report.median(samples.after_offload) / steady,
            "×",
            1.05,
        ),
        report.at_most(
            "first page after deep idle ÷ steady, in the engine",
            report.median(samples.after_exit) / steady,
            "×",
            1.05,
        ),
    )


def _crowd_rows(wakes: int, answered: int) -> tuple[report.Row, ...]:
    return (
        report.at_most(f"wakes caused by {CROWD} requests at once", wakes, "wakes", 1),
        report.at_most(f"of {CROWD} requests to a sleeper not answered", CROWD - answered, "pages", 0),
    )


def _gpu_rows(empty: list[int] | None, deep: list[int] | None) -> tuple[report.Row, ...]:
    if empty is None or deep is None:
        return ()
    left = max(after - before for before, after in zip(empty, deep, strict=True))
    return (report.at_most("left on the GPU in deep idle, by NVML", left, "MiB", 0),)


def _method(state: dict[str, Any]) -> str:
    device, engine = state["device"], state["models"][0]["engine"]
    return (
        f"the server in a process of its own, one model of engine {engine} on device {device['kind']}"
        f" ({device['product'] or 'no GPU'}), {state['models'][0]['host_bytes']} bytes in host memory, a page of 320 ×"
        f" 240 pixels, 32 tokens at most. {ROUNDS} rounds: {STEADY} pages by the ready model, offload, a page,"
        f" {STEADY} pages, offload with exit of the worker, a page; exit, a streamed page. `in the engine` is the time"
        f" that the worker itself counts for the page, without waking and waiting. Then {CROWD} requests at once to"
        f" the exited model; then {STEADY} wakes from deep idle by workers that are started without a nursery. Client"
        " and server share the machine's cores. NVML's numbers are those of nvidia-smi, before the server starts and"
        " while the model is in deep idle."
    )
