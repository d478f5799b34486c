"""What the server costs: the time it adds to a page, and how it answers probes while it reads."""

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench import report
from ocr_wire import names
from ocr_wire.settings import LIVE, NEVER
from ocr_wire.states import DeviceKind

PAGE: Final = Path(__file__).parent.parent / "examples" / "invoice.png"
PAGES: Final = 30
LOAD_SECONDS: Final = 30.0
READERS: Final = 4
PROBE_PAUSE: Final = 0.02
NO_TIMERS: Final = {each.field: NEVER for each in LIVE if each.part == "idle"}
"""`idle` of models that stay where they are."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def started(
    environ: Mapping[str, str], *arguments: str, stderr: int = asyncio.subprocess.DEVNULL
) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """A server in a process of its own that accepts requests: its address, and the process."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "ocr_inference",
            "serve",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            *arguments,
        ),
        env=environ,
        stderr=stderr,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as http:
            await answers(http, url)
        yield url, process
    finally:
        process.terminate()
        await process.communicate()


async def states(http: aiohttp.ClientSession, url: str) -> AsyncGenerator[dict[str, Any], None]:
    """What the server says of itself, now and after each change, until it ends. Use it in `contextlib.aclosing`."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with http.get(f"{url}{names.PATH_STATE}?watch=true", timeout=timeout) as answer:
        async for line in answer.content:
            if line.startswith(b"data:"):
                yield json.loads(line[5:])


async def answers(http: aiohttp.ClientSession, url: str) -> None:
    """Wait until a server that was started accepts requests."""
    async with asyncio.timeout(60):
        while True:
            try:
                async with http.get(url + names.PATH_READY) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


async def read(http: aiohttp.ClientSession, url: str, page: bytes) -> float:
    form = aiohttp.FormData({"prompt_type": "ocr"})
    form.add_field("file", page, filename="page.png", content_type="image/png")
    began = time.perf_counter()
    async with http.post(f"{url}/ocr", data=form) as answer:
        await answer.read()
        answer.raise_for_status()
    return time.perf_counter() - began


def bare(page: bytes) -> "BareEngine":
    return BareEngine(page)


class BareEngine:
    """The OCR library called directly in a process of its own use: no HTTP, no worker, no queue."""

    def __init__(self, page: bytes) -> None:
        from rapidocr import RapidOCR  # noqa: PLC0415 - seconds of import that other measurements don't need

        self._engine = RapidOCR(params={"Global.log_level": "critical"})
        self._page = page

    def read(self) -> float:
        began = time.perf_counter()
        self._engine(self._page)
        return time.perf_counter() - began


async def probe(http: aiohttp.ClientSession, url: str, stop: asyncio.Event) -> list[float]:
    latencies = []
    while not stop.is_set():
        began = time.perf_counter()
        async with http.get(f"{url}/health") as answer:
            await answer.read()
        latencies.append(time.perf_counter() - began)
        await asyncio.sleep(PROBE_PAUSE)
    return latencies


async def measure() -> report.Result:
    page = PAGE.read_bytes()
    environ = {**os.environ, names.ENV_DEVICE: DeviceKind.CPU, "GPU_IDLE_TIMEOUT": "-1"}
    async with aiohttp.ClientSession() as http, started(environ) as (url, _):
        engine = bare(page)
        await read(http, url, page)
        await asyncio.to_thread(engine.read)
        direct, served = [], []
        for _ in range(PAGES):
            direct.append(await asyncio.to_thread(engine.read))
            served.append(await read(http, url, page))

        stop = asyncio.Event()
        prober = asyncio.create_task(probe(http, url, stop))
        end = time.monotonic() + LOAD_SECONDS

        async def reader() -> int:
            count = 0
            while time.monotonic() < end:
                await read(http, url, page)
                count += 1
            return count

        pages = sum(await asyncio.gather(*(reader() for _ in range(READERS))))
        stop.set()
        health = await prober
    difference = [over - under for over, under in zip(served, direct, strict=True)]
    rows = (
        report.plain("a page by the bare library, median", report.median(direct) * 1000, "ms"),
        report.plain("the same page through the server, median", report.median(served) * 1000, "ms"),
        report.plain("added by the server, median of pairs", report.median(difference) * 1000, "ms"),
        report.plain(
            "server ÷ bare, median of pairs",
            report.median([a / b for a, b in zip(served, direct, strict=True)]),
            "×",
        ),
        report.plain(f"pages per second with {READERS} clients", pages / LOAD_SECONDS, "1/s"),
        report.plain("/health under that load, p50", report.percentile(health, 0.5) * 1000, "ms"),
        report.at_most("/health under that load, p99", report.percentile(health, 0.99) * 1000, "ms", 10),
    )
    method = (
        f"{PAGES} pairs (bare library in this process, then the server in its own; rapidocr on the CPU, both"
        f" warm), then {READERS} clients reading without pause for {LOAD_SECONDS:.0f} s while /health is asked"
        f" every {PROBE_PAUSE * 1000:.0f} ms; client and server share the machine's cores"
    )
    return report.Result(
        "server", method, rows, {"bare_seconds": direct, "served_seconds": served, "health_seconds": health}
    )
