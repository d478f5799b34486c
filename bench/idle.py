"""What a model costs that nobody uses: memory of the server with all its processes, and how often it wakes the CPU.

Memory is the proportional set size (PSS) of the process tree, in which a page of several processes counts once, and the
host tier, which nobody may have mapped. `peers` has servers of others.
"""

import asyncio
import contextlib
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import aiohttp

from bench import report, server, vlmserver, wake
from bench.sleeper import Sleeper
from ocr_wire import engines, names
from ocr_wire.states import DeviceKind, State

MIB: Final = 1 << 20
ROUNDS: Final = 5
REST_SECONDS: Final = 10.0
STATES: Final = ("started", "ready", "offloaded", "deep idle", "deep idle without a standby", "released")


@dataclass(frozen=True)
class Resting:
    """A process tree at rest."""

    mib: float
    """PSS and host tier."""
    wakes: float
    """Voluntary context switches of all threads, a second."""


def tree(pid: int) -> list[int]:
    return [pid, *vlmserver.offspring(pid)]


def pss_bytes(pids: Iterable[int]) -> int:
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return total


def switches(pids: Iterable[int]) -> dict[str, int]:
    """Voluntary context switches so far, by thread."""
    found = {}
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                lines = (task / "status").read_text().splitlines()
                (count,) = (line for line in lines if line.startswith("voluntary_ctxt_switches"))
                found[task.name] = int(count.split()[1])
    return found


async def resting(pid: int, host_bytes: int = 0) -> Resting:
    """Look at a tree for some seconds in which nobody asks it for anything. Host memory that one of its processes has
    mapped is in its PSS, so only `host_bytes` that none has are to be given."""
    before = switches(tree(pid))
    began = time.monotonic()
    await asyncio.sleep(REST_SECONDS)
    after = switches(tree(pid))
    woken = sum(count - before.get(thread, 0) for thread, count in after.items())
    mib = (pss_bytes(tree(pid)) + host_bytes) / MIB
    return Resting(mib, woken / (time.monotonic() - began))


async def settled(pid: int) -> None:
    """Wait until what is done in the background is done: no CPU time in a second."""
    last = -1.0
    while (now := _cpu_seconds(tree(pid))) > last + 0.05:
        last = now
        await asyncio.sleep(1)


def _cpu_seconds(pids: Iterable[int]) -> float:
    ticks = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Life:
    """Samples of one server after another, each taken through all states."""

    def __init__(self) -> None:
        self.states: dict[str, list[Resting]] = {each: [] for each in STATES}
        self.first_page: list[float] = []
        self.first_page_late: list[float] = []
        """Of a server that begins no imports before it is asked."""
        self.wake: list[float] = []
        self.wake_without: list[float] = []

    async def live(self, config: str, environ: Mapping[str, str]) -> None:
        async with served(config, environ) as (sleeper, pid):
            await settled(pid)
            self.states["started"].append(await resting(pid))
            self.first_page.append((await sleeper.read())[0])
            await settled(pid)
            self.states["ready"].append(await resting(pid))
            await sleeper.sleep(deep=False)
            self.states["offloaded"].append(await resting(pid))
            await sleeper.sleep(deep=True)
            await settled(pid)
            self.states["deep idle"].append(await resting(pid, await self._unmapped(sleeper)))
            self.wake.append((await sleeper.read())[0])
            await sleeper.sleep(deep=True)
            await sleeper.declare(dropStandbyAfterSeconds=0)
            await settled(pid)
            host_bytes = (await sleeper.state())["models"][0]["host_bytes"]
            self.states["deep idle without a standby"].append(await resting(pid, host_bytes))
            self.wake_without.append((await sleeper.read())[0])
            await sleeper.declare(releaseAfterSeconds=0)
            await sleeper.until(state=State.UNLOADED)
            await settled(pid)
            self.states["released"].append(await resting(pid))
        async with served(config, environ, dropStandbyAfterSeconds=0) as (sleeper, _):
            self.first_page_late.append((await sleeper.read())[0])

    async def _unmapped(self, sleeper: Sleeper) -> int:
        """Bytes of the host tier while no standby has it mapped."""
        return 0 if sleeper.stands_by else int((await sleeper.state())["models"][0]["host_bytes"])


def host_tier_bytes(pid: int) -> int:
    """Bytes of the files in memory that a server has open for weights."""
    links = [each for each in Path(f"/proc/{pid}/fd").iterdir() if "memfd:ocr-weights" in os.readlink(each)]
    return sum(each.stat().st_blocks * 512 for each in links)


@contextlib.asynccontextmanager
async def served(
    config: str, environ: Mapping[str, str], **idle: float
) -> AsyncIterator[tuple[Sleeper, int]]:
    """A server whose model was never asked for anything, with its process id; no timer runs but those of `idle`."""
    live = f"idle: {json.dumps(server.NO_TIMERS | idle)}\n"
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(config + live)
        file.flush()
        timeout = aiohttp.ClientTimeout(total=600)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            server.started(environ, "--config", file.name) as (url, process),
        ):
            async with http.get(url + names.PATH_STATE) as answer:
                model = (await answer.json())["models"][0]
            stands_by = engines.BY_NAME[model["engine"]].stands_by
            yield Sleeper(http, url, model["name"], stands_by=stands_by), process.pid


async def measure() -> report.Result:
    lives = {"pp-ocr": Life()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environ = dict(os.environ) | {
            names.ENV_CACHE_DIR: str(folder / "cache"),
            names.ENV_DEVICE: DeviceKind.CPU,
        }
        configs = {"pp-ocr": wake.CPU.format(threads=0)}
        if find_spec("transformers") is not None:
            await wake.checkpoint(folder / "checkpoint", "tiny")
            configs["tiny deepseek-ocr"] = wake.VLM.format(folder=folder / "checkpoint", threads=0)
            lives["tiny deepseek-ocr"] = Life()
        for _ in range(ROUNDS):
            for model, config in configs.items():
                await lives[model].live(config, environ)
    rows = [row for model, life in lives.items() for row in _rows(model, life)]
    return report.Result("idle", _method(), rows, _samples(lives))


def _rows(model: str, life: Life) -> list[report.Row]:
    rows = []
    for state in STATES:
        memory = report.median([each.mib for each in life.states[state]])
        bounded = model != "pp-ocr" and state.startswith("deep idle")
        what = f"{model}: {state}"
        rows.append(
            report.at_most(what, memory, "MiB", 200) if bounded else report.plain(what, memory, "MiB")
        )
    most = max(each.wakes for state in STATES for each in life.states[state])
    return [
        *rows,
        report.at_most(f"{model}: wake-ups at rest, the most in any state", most, "1/s", 5),
        *(
            report.plain(f"{model}: {what}, median", report.median(seconds) * 1000, "ms")
            for what, seconds in (
                ("first page of a server that was left alone", life.first_page),
                ("first page of one that begins no imports by itself", life.first_page_late),
                ("deep idle → answer", life.wake),
                ("deep idle without a standby → answer", life.wake_without),
            )
        ),
    ]


def _samples(lives: Mapping[str, Life]) -> dict[str, Sequence[float]]:
    samples: dict[str, Sequence[float]] = {}
    for model, life in lives.items():
        for state, rests in life.states.items():
            samples[f"{model}: {state}, MiB"] = [each.mib for each in rests]
            samples[f"{model}: {state}, wake-ups/s"] = [each.wakes for each in rests]
        samples[f"{model}: first page, s"] = life.first_page
        samples[f"{model}: first page without imports, s"] = life.first_page_late
        samples[f"{model}: wake, s"] = life.wake
        samples[f"{model}: wake without a standby, s"] = life.wake_without
    return samples


def _method() -> str:
    return (
        f"{ROUNDS} servers one after another for each model, alternating, in processes of their own on the CPU. Each is"
        " looked at where it has done nothing in the background for a second: after its start, with its imports done;"
        " after a page; after an offload; in deep idle with what is kept for the next wake; the same with"
        f" dropStandbyAfterSeconds 0; after a release. A look lasts {REST_SECONDS:g} s: voluntary context switches of"
        " all threads of all processes, and at its end the sum of their proportional set sizes (PSS of smaps_rollup),"
        " with the weights in host memory where no process has them mapped. Cached files that no process has mapped are"
        " in no figure. Pages of 320 × 240 pixels, 32 tokens at most, by the clock of the client. The machine's cores"
        " are shared with the client."
    )
