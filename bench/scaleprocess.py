"""The operator's own process in a measurement: started, read from /proc, ended whatever happens."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from devcluster.cluster import Cluster
from devcluster.machine import processes

TICKS: Final = os.sysconf("SC_CLK_TCK")


class OperatorProcess:
    """One that runs, with what it has taken so far."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, ticks: Path) -> None:
        self._process = process
        self._log = log
        self._ticks = ticks
        self.began = time.monotonic()

    def cpu_seconds(self) -> float:
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def has_said(self, text: str) -> bool:
        return text in self._log.read_text(errors="replace")

    def memory(self) -> tuple[float, float]:
        """Return its resident memory now and at most, in MiB."""
        lines = dict(line.split(":", 1) for line in self._proc("status").splitlines())
        now, most = (int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return now, most

    def lateness(self, since: float) -> list[float]:
        """List by how many seconds timers of its event loop were late since then (monotonic seconds)."""
        found: list[float] = []
        for line in self._ticks.read_text().splitlines():
            with contextlib.suppress(ValueError):  # the last line may not be whole
                at, late = json.loads(line)
                found += late if at >= since else []
        return found

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)
            try:
                await asyncio.wait_for(self._process.wait(), 15)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self._process.pid}/{name}").read_text()


async def start(cluster: Cluster, folder: Path, **settings: str) -> OperatorProcess:
    """Start it as the chart would, with its Leases; `settings` are others of its own. It ends with this process."""
    name = f"operator-{time.monotonic_ns()}"
    environ = os.environ | {
        "KUBECONFIG": str(cluster.kubeconfig),
        "POD_NAME": name,
        "OCR_OPERATOR_HOST": "127.0.0.1",
        "OCR_OPERATOR_PORT": "0",
        "OCR_OPERATOR_IDENTITY": "default/operator",
        "OCR_OPERATOR_LEASE": "default/operator-leader",
        **{f"OCR_OPERATOR_{key.upper()}": value for key, value in settings.items()},
    }
    log, ticks = folder / f"{name}.log", folder / f"{name}.ticks"
    ticks.touch()
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.watchedoperator", str(ticks), env=environ, stdout=out, stderr=out,
            preexec_fn=processes.die_with(os.getpid()),
        )  # fmt: skip
    return OperatorProcess(process, log, ticks)


@contextlib.asynccontextmanager
async def running(cluster: Cluster, folder: Path, **settings: str) -> AsyncIterator[OperatorProcess]:
    """One that ends with the block."""
    found = await start(cluster, folder, **settings)
    try:
        yield found
    finally:
        await found.end()
