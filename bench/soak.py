"""A soak: for half an hour, one server meets all that clients, pages, workers and administrators can do wrong.

A real server with a process for each model, on a simulated GPU that holds two of its three models. While clients have
pages read, others go away, send what must be refused, hold connections, send pages that kill a worker or hang in it;
keys rotate and settings change. After each round all models are released, and what the server holds is measured.
"""

import asyncio
import contextlib
import json
import os
import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench import bodies, report, server
from bench.soakclients import HUNG, READER, WRITER, Clients, Keys, Scene, Tally, bearer
from bench.soakharm import Offenders
from bench.vlmserver import offspring, opened, resident
from ocr_wire import names
from ocr_wire.states import State

ROUNDS: Final = 18
ROUND_SECONDS: Final = 105.0
"""More than a page that hangs takes to be ended: its deadline, and 60 s."""
DEADLINE_SECONDS: Final = 20.0
WATCHDOG_SECONDS: Final = 95.0
"""After which a page that hangs must have been ended, with time for a machine that is busy."""
WARM_UP_SECONDS: Final = 5.0
"""Of a first round that isn't measured: allocators take what they need."""
SEED: Final = 20_261_128
SPREAD: Final = 1.05
"""What of the largest memory in the first third of the rounds the later ones may reach."""
SETTLE_SECONDS: Final = 60.0
GPU_BYTES: Final = 2 << 30
ADMIN_TOKEN: Final = "the-administrator"


@dataclass(frozen=True)
class Settled:
    """What the server holds when nobody wants anything and no model is loaded."""

    server_bytes: int
    tree_bytes: int
    """With its child processes."""
    descriptors: int
    processes: int
    page_bytes: int
    """In files in memory that hold pages."""


@dataclass
class Outcome:
    tally: Tally
    settled: list[Settled]
    faults: list[str]
    """Lines of the server's log at level error, and tracebacks."""
    log_bytes: int = 0
    seconds: float = 0.0

    def grown(self, what: str) -> float:
        """Return the largest after the first third of the rounds ÷ the largest before."""
        values = [float(getattr(each, what)) for each in self.settled]
        first = max(1, len(values) // 3)
        return max(values[first:]) / max(values[:first])


def _model(name: str, faults: Path, **options: float) -> dict[str, Any]:
    own = {"faults_file": str(faults), "load_seconds": 0.1, "restore_seconds": 0.02} | options
    return {"name": name, "engine": "fake", "gpuMemory": "1Gi", "options": own}


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[str, asyncio.subprocess.Process, Keys, Path]]:
    """A server of three models of the engine `fake` in a process of its own."""
    faults, admin = folder / "faults.json", folder / "admin"
    faults.write_text("{}")
    admin.write_text(ADMIN_TOKEN + "\n")
    keys = Keys(folder / "keys")
    config = {
        "models": [
            _model(READER, faults, max_batch=4, infer_seconds=0.01),
            _model(WRITER, faults, max_batch=4, step_seconds=0.002),
            _model(HUNG, faults),
        ],
        "queue": {"limit": 64, "patienceSeconds": 0.5, "deadlineSeconds": DEADLINE_SECONDS},
        "idle": server.NO_TIMERS,
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    gpu = {"uuid": "GPU-soak", "product": "NVIDIA-L40S", "memory_bytes": GPU_BYTES}
    (folder / "gpus.json").write_text(json.dumps([gpu]))
    told = {
        names.ENV_DEVICE: "simulated",
        names.ENV_SIMULATED_GPU_DIR: str(folder),
        "POD_NAME": "soak",
        names.ENV_CACHE_DIR: str(folder / "cache"),
        names.ENV_API_KEYS_FILE: str(folder / "keys"),
        names.ENV_ADMIN_TOKEN_FILE: str(admin),
    }
    arguments = ("--config", str(folder / "config.yaml"))
    async with server.started(os.environ | told, *arguments, stderr=asyncio.subprocess.PIPE) as (
        url,
        process,
    ):
        yield url, process, keys, faults


class Soak:
    """Rounds of harm over one server, and what it holds after each."""

    def __init__(self, scene: Scene, faults: Path, process: asyncio.subprocess.Process) -> None:
        self.outcome = Outcome(scene.tally, [], [])
        self._scene = scene
        self._clients = Clients(scene)
        self._offenders = Offenders(scene, self._clients, faults)
        self._process = process

    async def run(self, rounds: int, seconds: float) -> Outcome:
        """Run rounds of `seconds` each."""
        loop = asyncio.get_running_loop()
        listening = asyncio.create_task(self._listen())
        began = loop.time()
        try:
            await self._round(min(seconds, WARM_UP_SECONDS))
            await self._settle()
            for _ in range(rounds):
                await self._round(seconds)
                self.outcome.settled.append(await self._settle())
        finally:
            listening.cancel()
        self.outcome.seconds = loop.time() - began
        return self.outcome

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.outcome.log_bytes += len(line)
            if (b" ERROR " in line and b"killing the worker" not in line) or line.startswith(b"Traceback"):
                self.outcome.faults.append(line.decode().rstrip())

    async def _round(self, seconds: float) -> None:
        over, each, bad = self._scene.over, self._clients, self._offenders
        over.clear()
        background = (
            *(bad.leaver(model) for model in (READER, WRITER)),
            bad.nuisance(0.1),
            bad.silent(),
            bad.deaf_watcher(),
            each.watcher(),
            each.prober(0.05),
            each.rotator(1.0),
            each.administrator(0.6),
        )
        whole = (
            *(each.reader(READER, 0.02) for _ in range(4)),
            *(each.reader(WRITER, 0.02) for _ in range(3)),
            bad.killer(READER, 4.0),
            bad.killer(WRITER, 6.0),
            bad.hanger(1.0, WATCHDOG_SECONDS if seconds > WATCHDOG_SECONDS else 0.0),
        )
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(client) for client in background]
            working = [tasks.create_task(client) for client in whole]
            await asyncio.sleep(seconds)
            over.set()
            await asyncio.wait(working)
            for task in running:
                task.cancel()

    async def _settle(self) -> Settled:
        """Release all models, and wait until the server has closed what its clients had open."""
        await self._clients.release_all()
        usual = self.outcome.settled[0] if self.outcome.settled else None
        loop = asyncio.get_running_loop()
        end = loop.time() + SETTLE_SECONDS
        while True:
            await asyncio.sleep(0.5)  # nobody tells
            now = self._measured()
            settled = usual is None or (
                now.descriptors <= usual.descriptors and now.processes <= usual.processes
            )
            if (settled and await self._resting()) or loop.time() > end:
                return now

    async def _resting(self) -> bool:
        async with self._scene.http.get(names.PATH_STATE) as answer:
            state = await answer.json()
        queue = state["queue"]
        unloaded = all(each["state"] == State.UNLOADED for each in state["models"])
        return unloaded and not queue["waiting"] and not queue["in_flight"]

    def _measured(self) -> Settled:
        pid = self._process.pid
        children = offspring(pid)
        return Settled(
            server_bytes=resident(pid),
            tree_bytes=resident(pid) + sum(_resident(child) for child in children),
            descriptors=opened(pid),
            processes=len(children),
            page_bytes=bodies.held(pid),
        )


def _resident(pid: int) -> int:
    try:
        return resident(pid)
    except (OSError, StopIteration):  # it has ended meanwhile
        return 0


async def run(folder: Path, rounds: int, seconds: float, seed: int = SEED) -> Outcome:
    """Soak a server whose files are in `folder`."""
    async with served(folder) as (url, process, keys, faults):
        address = (url.rpartition("/")[2].partition(":")[0], int(url.rpartition(":")[2]))
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=120)
        async with aiohttp.ClientSession(url, timeout=timeout, connector=connector) as http:
            scene = Scene(http, address, keys, bearer(ADMIN_TOKEN), random.Random(seed))
            return await Soak(scene, faults, process).run(rounds, seconds)


def rows(outcome: Outcome) -> tuple[report.Row, ...]:
    tally, first, last = outcome.tally, outcome.settled[0], outcome.settled[-1]
    probes = tally.probe_seconds
    return (
        report.plain("time", outcome.seconds / 60, "min"),
        *(report.plain(f"pages read by {name}", n, "pages") for name, n in sorted(tally.read.items())),
        report.plain("times a page was sent again", tally.again.total(), ""),
        report.plain("requests left by their clients", tally.left, ""),
        report.plain("requests refused as they had to be", tally.refused.total(), ""),
        *(report.plain(f"workers {cause}", n, "") for cause, n in sorted(tally.ended.items())),
        *(report.plain(what, n, "") for what, n in sorted(tally.done.items())),
        report.at_most("wrong answers", len(tally.wrong), "", 0),
        report.at_most("pages without an answer", len(tally.lost), "pages", 0),
        report.at_most("errors in the server's log", len(outcome.faults), "lines", 0),
        report.at_most(
            "memory of the server, later ÷ first third", outcome.grown("server_bytes"), "×", SPREAD
        ),
        report.at_most("with its processes, later ÷ first third", outcome.grown("tree_bytes"), "×", SPREAD),
        report.at_most("drift of descriptors", last.descriptors - first.descriptors, "", 0),
        report.at_most("drift of processes", last.processes - first.processes, "", 0),
        report.at_most("pages held at the end", last.page_bytes, "B", 0),
        report.plain("log", outcome.log_bytes / 1e6, "MB"),
        report.plain("probes, p50", report.percentile(probes, 0.5) * 1000, "ms"),
        report.plain("probes, p99", report.percentile(probes, 0.99) * 1000, "ms"),
    )


async def measure() -> report.Result:
    with tempfile.TemporaryDirectory() as name:
        outcome = await run(Path(name), ROUNDS, ROUND_SECONDS)
    tally = outcome.tally
    for line in (*tally.wrong, *tally.lost, *outcome.faults):
        print(f"  {line}")
    method = (
        f"a real server of three models by engine fake, on a simulated GPU that holds two; {ROUNDS} rounds of"
        f" {ROUND_SECONDS:g} s (seed {SEED}). 7 clients have pages read, whole, by chat and streamed; each answer is"
        " compared with the text that the page must give, and a page is sent again at 408, 429, 503 and 504. Beside"
        " them clients go away, send what has to be refused (400 to 422, up to 72 MB), hold 40 silent and half-open"
        " connections and a watch that is never read, send pages that kill workers or hang in them; keys rotate each"
        " second, settings change, models are offloaded and released, and the probes are asked 10 times a second."
        " After each round all models are released, and memory (RssAnon), descriptors and processes are measured."
        f" Sent again at: {dict(tally.again)}. Refused: {dict(tally.refused)}."
    )
    samples: dict[str, Sequence[float]] = {
        what: [float(getattr(each, what)) for each in outcome.settled]
        for what in ("server_bytes", "tree_bytes", "descriptors", "processes", "page_bytes")
    }
    return report.Result("soak", method, rows(outcome), samples)
