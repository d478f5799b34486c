"""Processes that the server starts for its models: what they inherit, and how they are awaited and killed.

`Direct` starts a worker from nothing, which then imports its engine's libraries. `forkservers.Forkservers` starts one
from a process that has them imported already.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Protocol

from ocr_inference.protocol.host_tier import HostTier

_ENVIRONMENT = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "GLIBC_TUNABLES",
    # How to reach a hub.
    *(
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
    ),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
_ENVIRONMENT_PREFIXES = ("CUDA_", "NVIDIA_", "OMP_", "MKL_", "ORT_", "HF_", "PYTORCH_", "TORCH_")
_HUGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Have fresh memory in pages of 2 MiB where the kernel grants them on request: a worker's first page takes 100 MB of
it, and each later page as much again. Nothing changes where glibc is older than 2.35 or the kernel refuses."""
_QUIET = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
"""No library reports to its maker, since documents are read here. By default onnxruntime does, by a thread that it
starts when it is imported."""

_LINE_BYTES = 4096
"""Longest line of a process's log; longer ones are cut into pieces."""


class Process(Protocol):
    """Worker process that was started."""

    @property
    def pid(self) -> int: ...

    @property
    def log(self) -> asyncio.StreamReader:
        """Standard error of the process."""

    async def wait(self) -> int:
        """Wait for its end. Returns the exit code; a negative one is the number of the signal that killed it."""

    def kill(self) -> None:
        """Send SIGKILL, if it hasn't ended; never to another process that got its number."""


class Starter(Protocol):
    """Way to start worker processes."""

    async def start(self, engine: str, model: str, connection: socket.socket, host: HostTier) -> Process:
        """Start a worker that is connected by `connection` and has `host`. Raises `OSError` where the system
        refuses."""


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of the server's environment that a worker gets: libraries, devices and hub, none of our
    tokens."""
    passed = {
        name: value
        for name, value in environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }
    return _HUGE | passed | _QUIET


async def spawn(
    module: str, arguments: tuple[str, ...], descriptors: tuple[int, ...], environ: Mapping[str, str]
) -> "Spawned":
    """Start a Python process that runs `module`, with these descriptors open; standard error is its log."""
    return Spawned(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", module, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=descriptors,
            env=environment(environ),
        )
    )


class Spawned:
    """Child process of the server."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        self.log = process.stderr
        self._process = process
        try:
            self._pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            self._pidfd = -1  # it has ended already

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        code = await self._process.wait()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        return code

    def kill(self) -> None:
        # Not by `Process.kill`: that may collect the exit code before asyncio does, which then returns another.
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


class Direct:
    """Starts each worker from nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    async def start(self, engine: str, model: str, connection: socket.socket, host: HostTier) -> Process:  # noqa: ARG002
        descriptors = (connection.fileno(), host.fd)
        arguments = (*map(str, descriptors), str(os.getpid()))
        return await spawn("ocr_inference.workers.worker_process", arguments, descriptors, self._environ)


async def lines(stream: asyncio.StreamReader, take: Callable[[str], None]) -> None:
    """Call `take` with each line of a process's log, until it ends."""
    rest = b""
    while chunk := await stream.read(_LINE_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LINE_BYTES:
            whole, rest = [*whole, rest], b""
        for line in whole:
            _take(line, take)
    _take(rest, take)


def _take(line: bytes, take: Callable[[str], None]) -> None:
    if text := line.decode(errors="replace").rstrip():
        take(text)
