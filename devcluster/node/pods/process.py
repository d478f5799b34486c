"""Local processes: starting one in its own session, waiting for its end, and the keeper that outlives a killed node."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from devcluster.machine import processes
from devcluster.machine.layout import CHECKOUT
from devcluster.node.decide.podspec import Command

CONTAINER_MARK = "DEVCLUSTER_CONTAINER"


class Process:
    """Program that was started. Its process group is its own, so that all of it can be ended together."""

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
        """Return the exit code, negative for a signal. May be awaited by several and may be cancelled."""
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
            preexec_fn=processes.die_with(os.getpid()),  # noqa: PLW1509  it takes no lock between fork and exec
        )
    return Process(popen)


def keeper(root: Path) -> subprocess.Popen[bytes]:
    """Start the process that outlives a killed node just long enough to sweep what it ran."""
    return subprocess.Popen(
        [sys.executable, "-m", "devcluster.node.keeper", str(root)],
        stdin=subprocess.PIPE,
        cwd=CHECKOUT,
        start_new_session=True,
    )
