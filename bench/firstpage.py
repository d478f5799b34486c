"""How long a newcomer waits: from `git clone` to the first page read in the browser, by what the README says.

`git clone`, `make init`, `make serve`, then the page in a headless Chromium: a picture is chosen, read, and its total
is looked for in the text. The clone is of this checkout's last commit, so its part has no network in it; `make init`
fetches everything, with an empty cache (`BENCH_FIRSTPAGE_CACHE=warm` takes the user's).
"""

import asyncio
import itertools
import os
import signal
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import aiohttp
from playwright.async_api import Page, async_playwright, expect

from bench import report
from tests.support import browser as chromium
from tests.support.paths import ROOT

RUNS: Final = int(os.environ.get("BENCH_FIRSTPAGE_RUNS", "3"))
WARM: Final = os.environ.get("BENCH_FIRSTPAGE_CACHE") == "warm"
TARGET_SECONDS: Final = 60.0
PATIENCE_SECONDS: Final = 600.0
TOTAL: Final = "504.50"
"""On the picture that is read."""
STEPS: Final = (
    "git clone",
    "make init",
    "make serve, until it is ready",
    "the page, until the picture is read",
)
METHOD: Final = (
    f"{RUNS} runs into empty folders, uv's cache {'as it is' if WARM else 'empty'}; the clone is of a local "
    "repository. PP-OCR on the CPU reads examples/invoice.png; the browser is started before, as a person's is."
)


async def _run(folder: Path, page: Page) -> list[float]:
    """Return the seconds of each step."""
    clone, port = folder / "clone", _free_port()
    own = {} if WARM else {"UV_CACHE_DIR": str(folder / "cache")}
    environ = {**os.environ, **own, "OCR_HOST": "127.0.0.1", "PORT": str(port)}
    times = [time.perf_counter()]
    await _command(environ, "git", "clone", "--quiet", str(ROOT), str(clone))
    times.append(time.perf_counter())
    await _command(environ, "make", "-C", str(clone), "init")
    times.append(time.perf_counter())
    # A group of its own, since make doesn't pass a signal on.
    server = await asyncio.create_subprocess_exec(
        "make", "-C", str(clone), "serve", env=environ, stderr=asyncio.subprocess.DEVNULL, process_group=0
    )
    try:
        await _ready(f"http://127.0.0.1:{port}/readyz", server)
        times.append(time.perf_counter())
        await page.goto(f"http://127.0.0.1:{port}/")
        await page.locator("[data-test=files]").set_input_files(str(clone / "examples" / "invoice.png"))
        await page.locator("button.read").click()
        await expect(page.get_by_text(TOTAL).first).to_be_visible(timeout=PATIENCE_SECONDS * 1000)
        times.append(time.perf_counter())
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        await server.wait()
    return [after - before for before, after in itertools.pairwise(times)]


async def _command(environ: Mapping[str, str], *command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=asyncio.subprocess.DEVNULL)
    if await process.wait() != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")


async def _ready(url: str, server: asyncio.subprocess.Process) -> None:
    async with aiohttp.ClientSession() as http:
        while server.returncode is None:
            try:
                async with http.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
    raise RuntimeError("the server ended before it was ready")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


async def measure() -> report.Result:
    samples: dict[str, list[float]] = {step: [] for step in STEPS}
    async with async_playwright() as playwright:
        for _ in range(RUNS):
            with tempfile.TemporaryDirectory() as folder:
                started = await playwright.chromium.launch(
                    executable_path=chromium.executable(), args=list(chromium.FLAGS)
                )
                page = await started.new_page()
                page.set_default_timeout(PATIENCE_SECONDS * 1000)
                for step, seconds in zip(STEPS, await _run(Path(folder), page), strict=True):
                    samples[step].append(seconds)
                await started.close()
    wholes = [sum(each) for each in zip(*samples.values(), strict=True)]
    return report.Result(
        name="firstpage",
        method=METHOD,
        rows=[
            report.at_most(
                "clone to the first page in the browser", report.median(wholes), "s", TARGET_SECONDS
            ),
            *(report.plain(f"… {step}", report.median(each), "s") for step, each in samples.items()),
        ],
        samples={**samples, "whole": wholes},
    )
