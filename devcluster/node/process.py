"""Local processes: starting one in its own session, waiting for its end, finding what a node has left behind."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import devcluster
from devcluster.node.podspec import Command

NODE_MARK = "DEVCLUSTER_NODE"
"""Variable by which a node's processes are known, whatever session they move to; holds the node's root folder."""

CONTAINER_MARK = "DEVCLUSTER_CONTAINER"

_PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> Callable[[], None]:
    """What a child does between fork and exec: ask the kernel to kill it when its parent dies."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it died before the call above
            os._exit(127)

    return before_exec


class Process:
    """A started program. Its process group is its own, so that all of it can be ended together."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid
        self._ended = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(popen.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    def _reap(self) -> None:
        code = self._popen.wait()
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(
                self.pid, signal.SIGKILL
            )  # what it forked ends with it, as with the first process of a container
        if not self._ended.done():
            self._ended.set_result(code)

    async def wait(self) -> int:
        """The exit code, negative for a signal. May be awaited by several and may be cancelled."""
        code: int = await asyncio.shield(self._ended)
        return code

    def signal(self, number: signal.Signals) -> None:
        """Signal the first process only, as a container runtime does; nothing happens once it has ended."""
        if self._popen.poll() is None:
            self._popen.send_signal(number)

    def kill(self) -> None:
        """End the whole group at once."""
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


def start(command: Command, log: Path) -> Process:
    """Start a program with standard output and error appended to `log`; raises OSError when it can't be started."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        popen = subprocess.Popen(
            command.argv,
            env=command.env,
            cwd=command.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509  it takes no lock between fork and exec
        )
    return Process(popen)


def marked(mark: str, value: str) -> list[int]:
    """Processes of this user whose environment has `mark=value`."""
    wanted = f"{mark}={value}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def sweep(mark: str, value: str, patience_seconds: float = 5.0) -> int:
    """Kill every process so marked, and what they fork meanwhile; answer how many there were.

    The mark, unlike a recorded process id, can't come to mean somebody else's process.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + patience_seconds
    while (found := marked(mark, value)) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed.update(found)
        time.sleep(0.01)
    return len(killed)


def keeper(root: Path) -> subprocess.Popen[bytes]:
    """Start the process that outlives a killed node just long enough to sweep what it ran."""
    return subprocess.Popen(
        [sys.executable, "-m", "devcluster.node.keeper", str(root)],
        stdin=subprocess.PIPE,
        cwd=Path(devcluster.__file__).parents[1],
        start_new_session=True,
    )
