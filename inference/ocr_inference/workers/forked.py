"""Workers that a forkserver forked, as the server sees them: by their pidfd, which tells their end even where their
forkserver stands still."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

REPORT_SECONDS = 1.0
"""Time that a forkserver has to report the end of a worker; then its exit code is read from the system."""


class Child:
    """Worker that a forkserver forked: it isn't our child, so the forkserver collects it, and reports how it ended."""

    def __init__(self, pid: int, pidfd: int, stderr: asyncio.StreamReader) -> None:
        """Take `pidfd` over."""
        self.pid = pid
        self.log = stderr
        self._pidfd = pidfd
        self._loop = asyncio.get_running_loop()
        self._code: asyncio.Future[int] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._loop.add_reader(pidfd, self._notice_end)

    @property
    def alive(self) -> bool:
        return not self._code.done()

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    def kill(self) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def when_ended(self, call: Callable[[], None]) -> None:
        self._code.add_done_callback(lambda _: call())

    def collected(self, code: int) -> None:
        """Take its exit code from its forkserver, which has collected it."""
        self._take_code(code)
        self._close()

    async def orphaned(self) -> None:
        """Wait for its end after its forkserver's: the kernel kills it, and no forkserver reports that."""
        self.kill()
        try:
            await self._ended.wait()
            # The first process of a container inherits orphans and has to collect them.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222 never blocks
        finally:
            self.collected(-signal.SIGKILL)

    def _notice_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._ended.set()
        self._loop.call_later(REPORT_SECONDS, self._read_code)

    def _read_code(self) -> None:
        """Read the exit code of a process that its forkserver hasn't collected, since it stands still."""
        if self.alive:
            self._take_code(exit_code(self.pid))

    def _take_code(self, code: int) -> None:
        if self.alive:
            self._code.set_result(code)

    def _close(self) -> None:
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)


def exit_code(pid: int, proc: Path = Path("/proc")) -> int:
    """Return the exit code of a process that has ended and that nothing has collected; that of SIGKILL where the system
    doesn't say."""
    try:
        state, *_, status = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return os.waitstatus_to_exitcode(int(status)) if state == "Z" else -signal.SIGKILL
    except (OSError, ValueError):
        return -signal.SIGKILL
