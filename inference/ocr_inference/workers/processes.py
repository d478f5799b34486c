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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from ocr_inference.protocol.host_tier import HostTier
from ocr_wire import engines
from ocr_wire.redaction import is_secret

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
    # What engines run by an interpreter of its own.
    *(info.interpreter for info in engines.ENGINES if info.interpreter),
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
_ENVIRONMENT_PREFIXES = (
    "CUDA_",
    "NVIDIA_",
    "OMP_",
    "GOMP_",
    "MKL_",
    "ORT_",
    "HF_",
    "PYTORCH_",
    "TORCH_",
    "VLLM_",
)
_HUGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Have fresh memory in pages of 2 MiB where the kernel grants them on request: a worker's first page takes 100 MB of
it, and each later page as much again. Nothing changes where glibc is older than 2.35 or the kernel refuses."""
_SHORT_SPIN = {"GOMP_SPINCOUNT": "10000"}
"""Turns that threads of torch's OpenMP (libgomp) spin between two products before they sleep. By itself it takes
300,000: where other programs want the cores, steps of a decoder took 3 times as long with that. With 1,000, they took a
third longer on idle cores, since threads are woken for each product."""
_WAITS = frozenset({"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"})
"""Variables by which users decide that themselves."""
_FEW_THREADS = {"OPENBLAS_NUM_THREADS": "1"}
"""numpy's linear algebra starts a thread for each core when it is imported, and a process with threads can't be forked
from. Engines compute with runtimes of their own."""
_QUIET = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
"""No library reports to its maker, since documents are read here. By default onnxruntime does, by a thread that it
starts when it is imported."""


@dataclass(frozen=True)
class Inherited:
    """Descriptors that a worker process has from its start."""

    calls: socket.socket
    """Where it receives the server's calls, as packets."""
    answers: socket.socket
    """Where it sends its answers, a stream of frames."""
    host: HostTier

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """Return what `worker_process.serve` takes."""
        return self.calls.fileno(), self.answers.fileno(), self.host.fd


class Unanswered(OSError):
    """Start that was ordered and may still happen. What its worker was to inherit is used up: begin anew."""


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

    @property
    def secrets(self) -> Mapping[str, str]:
        """Variables that only a worker gets which asks a hub, by its connection."""

    async def start(self, engine: str, model: str, inherited: Inherited) -> Process:
        """Start a worker that has `inherited` open. Raises `OSError` where the system refuses, and `Unanswered`."""


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of the server's environment that every worker gets: libraries, devices and hub, no secrets.

    An environment is shown by /proc for as long as the process lives, and handed on to each child.
    """
    passed = {name: value for name, value in _passed(environ) if not is_secret(name, value)}
    waits = {} if _WAITS & passed.keys() else _SHORT_SPIN
    return _HUGE | waits | passed | _FEW_THREADS | _QUIET


def secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the server's environment has for a worker that asks a hub, besides: HF_TOKEN, a proxy's password."""
    return {name: value for name, value in _passed(environ) if is_secret(name, value)}


def _passed(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES):
            yield name, value


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
        self.secrets = secrets(environ)

    async def start(self, engine: str, model: str, inherited: Inherited) -> Process:  # noqa: ARG002
        descriptors = inherited.descriptors
        arguments = (*map(str, descriptors), str(os.getpid()))
        return await spawn("ocr_inference.workers.worker_process", arguments, descriptors, self._environ)
