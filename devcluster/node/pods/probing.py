"""Probes and hooks of a container by HTTP, TCP or a program, and the loop that asks as often as the probe says."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from devcluster.kube.model import Action, HttpGet, Port, Probe
from devcluster.node.decide import probes
from devcluster.node.decide.podspec import Command

MAX_OUTPUT_BYTES = 1024


@dataclass(frozen=True)
class Answer:
    success: bool
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """Verdict of a probe: its conclusion, and the answer that was counted last."""

    passing: bool | None
    answer: Answer


@dataclass(frozen=True)
class Asker:
    """Client that carries out the actions of one container's probes and hooks."""

    http: aiohttp.ClientSession
    ip: str
    ports: Sequence[Port]
    runs: Callable[[Sequence[str]], Command]
    """Makes the command of an exec action: same environment, folder and paths as the container's own."""

    def port(self, wanted: int | str) -> int:
        """Return a port by number or by the name that the container gives it."""
        if isinstance(wanted, int):
            return wanted
        for port in self.ports:
            if port.name == wanted:
                return port.container_port
        return int(wanted)

    async def ask(self, action: Action, timeout_seconds: float) -> Answer:
        """Carry out one action; every failure is an answer."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._act(action)
        except TimeoutError:
            return Answer(False, f"no answer within {timeout_seconds:g} s")
        except OSError as error:  # asyncio's and aiohttp's own texts name everything but the reason
            return Answer(False, os.strerror(error.errno) if error.errno else str(error))
        except (aiohttp.ClientError, ValueError) as error:
            return Answer(False, str(error) or type(error).__name__)

    async def _act(self, action: Action) -> Answer:
        if action.http_get is not None:
            return await self._get(action.http_get)
        if action.tcp_socket is not None:
            host = action.tcp_socket.host or self.ip
            _, writer = await asyncio.open_connection(host, self.port(action.tcp_socket.port))
            writer.close()
            return Answer(True)
        if action.exec is not None:
            return await _execute(self.runs(action.exec.command))
        if action.sleep is not None:
            await asyncio.sleep(action.sleep.seconds)
            return Answer(True)
        return Answer(False, "process nodes know the actions httpGet, tcpSocket, exec and sleep")

    async def _get(self, action: HttpGet) -> Answer:
        host = action.host or self.ip
        host = f"[{host}]" if ":" in host else host
        url = f"{action.scheme.lower()}://{host}:{self.port(action.port)}/{action.path.lstrip('/')}"
        headers = _headers(action)
        # redirects count as success and aren't followed; certificates of pods are nobody's to check
        async with self.http.get(url, headers=headers, allow_redirects=False, ssl=False) as response:
            if 200 <= response.status < 400:
                return Answer(True)
            text = (await response.content.read(MAX_OUTPUT_BYTES)).decode(errors="replace").strip()
            return Answer(False, f"HTTP {response.status}: {text}"[:300])


def _headers(action: HttpGet) -> Mapping[str, str]:
    return {"User-Agent": "kube-probe/devcluster"} | {
        header.name: header.value for header in action.http_headers
    }


async def _execute(command: Command) -> Answer:
    process = await asyncio.create_subprocess_exec(
        *command.argv,
        env=command.env,
        cwd=command.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
    )
    assert process.stdout is not None
    try:
        output = b""
        while chunk := await process.stdout.read(MAX_OUTPUT_BYTES):
            output = output or chunk  # the rest is read so that the program doesn't wait for a reader
        code = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return Answer(code == 0, output.decode(errors="replace").strip()[:300])


async def follow(
    probe: Probe, kind: probes.Kind, ask: Callable[[], Awaitable[Answer]]
) -> AsyncIterator[Verdict]:
    """Yield the verdict after each counted answer, until the caller stops."""
    clock = asyncio.get_running_loop().time
    await asyncio.sleep(probe.initial_delay_seconds)
    progress, gap = probes.first(kind), probes.EAGER_SECONDS
    while True:
        due = clock() + probe.period_seconds
        answer = await ask()
        progress = probes.advance(probe, progress, answer.success)
        yield Verdict(progress.passing, answer)
        while probes.eager(probe, progress) and clock() + gap < due:
            await asyncio.sleep(gap)
            gap = min(gap * 1.5, 1.0)
            if (answer := await ask()).success:
                progress = probes.advance(probe, progress, True)
                yield Verdict(progress.passing, answer)
        if progress.passing is True:
            gap = probes.EAGER_SECONDS
        await asyncio.sleep(max(due - clock(), 0))
