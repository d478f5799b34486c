"""What large pages cost the server while they arrive: how `/health` answers meanwhile, and what memory they take."""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench import report, server
from bench.uploader import Load
from ocr_wire import names

SECONDS: Final = 30.0
LARGE: Final = 45 << 20
HUGE: Final = 48 << 20
SMALL: Final = 100_000
CLIENTS: Final = 4
MANY: Final = 50
CROWD: Final = 40
QUEUE: Final = 4
PAUSE: Final = 0.01
CALM_SECONDS: Final = 3.0
MIB: Final = 1 << 20
DIALECTS: Final = {"form": "in forms", "chat": "in chat"}

HEALTH_MS: Final = 25.0
OWN_MIB: Final = 64.0
CROWD_MIB: Final = 300.0
LEFT_MIB: Final = 8.0


@dataclass
class Watched:
    """What was seen of a server while clients sent pages."""

    health: list[float] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    """Bytes of the process, at each look."""
    total: list[int] = field(default_factory=list)
    """With the pages, which are in files in memory."""
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def p99_ms(self) -> float:
        return report.percentile(self.health, 0.99) * 1000


def own(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def held(pid: int) -> int:
    """Bytes of the pages that the process has open."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if "memfd:ocr-page" in os.readlink(link):
                file = link.stat()
                found[file.st_ino] = file.st_size
    return sum(found.values())


@asynccontextmanager
async def served(
    options: dict[str, float] | None = None, environ: dict[str, str] | None = None, **config: Any
) -> AsyncIterator[tuple[int, int]]:
    """A server with the engine that reads nothing, warm: its port and process id."""
    model = {"name": "fake", "engine": "fake", "options": options or {}}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(json.dumps({"models": [model], "idle": server.NO_TIMERS, **config}))
        told = {**os.environ, names.ENV_DEVICE: "cpu", **(environ or {})}
        async with server.started(told, "--config", str(file)) as (url, process):
            port = int(url.rpartition(":")[2])
            for dialect in DIALECTS:
                await upload(Load(port, 1, SMALL, dialect))
            yield port, process.pid


async def upload(load: Load) -> dict[str, int]:
    """Let clients send pages from a process of their own, which doesn't share this one's time; answers by status."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.uploader"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(json.dumps(asdict(load)).encode() + b"\n")
    statuses: dict[str, int] = json.loads(out)
    return statuses


async def watch(pid: int, load: Load) -> Watched:
    """Ask `/health` and look at the memory while the clients run."""
    seen, uploading = Watched(), asyncio.create_task(upload(load))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{load.port}") as http:
        while not uploading.done():
            began = time.perf_counter()
            async with http.get("/health") as answer:
                await answer.read()
            seen.health.append(time.perf_counter() - began)
            seen.own.append(own(pid))
            seen.total.append(seen.own[-1] + held(pid))
            await asyncio.sleep(PAUSE)
    seen.statuses.update(uploading.result())
    return seen


async def measure() -> report.Result:
    rows: list[report.Row] = []
    samples: dict[str, Sequence[float]] = {}
    async with served(queue={"limit": 2 * MANY}) as (port, pid):
        quiet = await watch(pid, Load(port, 0, SMALL, "form", SECONDS))
        rows.append(report.plain("/health while nothing else happens, p99", quiet.p99_ms, "ms"))
        for clients, size, pages in ((CLIENTS, LARGE, "45 MiB"), (MANY, SMALL, "0.1 MB")):
            for dialect, where in DIALECTS.items():
                seen = await watch(pid, Load(port, clients, size, dialect, SECONDS))
                what = f"{clients} clients with pages of {pages} {where}"
                samples[what] = seen.health
                rows += (
                    report.at_most(f"/health, {what}, p99", seen.p99_ms, "ms", HEALTH_MS),
                    report.at_most(f"memory beside the pages, {what}", max(seen.own) / MIB, "MiB", OWN_MIB),
                    report.plain(f"pages, {what}", seen.statuses["200"] / SECONDS, "1/s"),
                    report.at_most(f"not answered with 200, {what}", others(seen.statuses, "200"), "", 0),
                )
    async with served({"infer_seconds": 1.0}, queue={"limit": QUEUE}) as (port, pid):
        before = own(pid)
        for dialect, where in DIALECTS.items():
            seen = await watch(pid, Load(port, CROWD, HUGE, dialect))
            await asyncio.sleep(CALM_SECONDS)
            what = f"{CROWD} uploads of 48 MiB {where}"
            rows += (
                report.at_most(f"memory with the pages, {what}", max(seen.total) / MIB, "MiB", CROWD_MIB),
                report.at_most(
                    f"memory left, {what}", (own(pid) + held(pid) - before) / MIB, "MiB", LEFT_MIB
                ),
                report.plain(f"read, {what}", seen.statuses["200"], ""),
                report.plain(f"refused with 429, {what}", seen.statuses["429"], ""),
                report.at_most(f"anything else, {what}", others(seen.statuses, "200", "429"), "", 0),
            )
    method = (
        f"a server with the engine that reads nothing; clients in a process of their own send pages (a picture, then"
        f" zeros) without pause for {SECONDS:.0f} s while /health is asked every {PAUSE * 1000:.0f} ms; then {CROWD}"
        f" clients send one page each to a server that reads one a second and lets {QUEUE} wait. Memory is that of the"
        f" server's process, with its pages' files where it says so; left after {CALM_SECONDS:.0f} s. Clients, server"
        " and worker share the machine's cores"
    )
    return report.Result("bodies", method, rows, samples)


def others(statuses: Counter[str], *expected: str) -> int:
    return sum(count for status, count in statuses.items() if status not in expected)
