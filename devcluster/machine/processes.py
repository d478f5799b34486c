"""Processes: start them so that none outlives its supervisor, and never signal one that isn't ours.

A number alone doesn't name a process, since it is given away again; every signal goes through a pidfd that was opened
and then compared with the start time on record.
"""

import asyncio
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from devcluster.machine.layout import Identity

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that `children` finds them all."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@dataclass(frozen=True)
class _Stat:
    parent: int
    started: int
    ended: bool


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in brackets and may itself hold blanks and brackets.
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(parent=int(fields[1]), started=int(fields[19]), ended=fields[0] in "ZX")


def identify(pid: int) -> Identity | None:
    """Return the identity of the running process with this number; None when there is none."""
    stat = _stat(pid)
    return None if stat is None or stat.ended else Identity(pid=pid, started=stat.started)


def runs(identity: Identity) -> bool:
    """Return whether exactly this process runs; one that ended but wasn't waited for doesn't."""
    return identify(identity.pid) == identity


def die_with(parent: int, number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """Ask the kernel, between fork and exec, for this signal when the thread that started the child ends."""

    def before_exec() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it ended before the line above
            os._exit(127)

    return before_exec


def _all() -> Iterable[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children(parent: int) -> list[Identity]:
    """Return the running child processes of `parent`."""
    found = []
    for pid in _all():
        stat = _stat(pid)
        if stat is not None and stat.parent == parent and not stat.ended:
            found.append(Identity(pid=pid, started=stat.started))
    return found


def marked(marks: Iterable[str]) -> list[Identity]:
    """Return the running processes with one of the marks (`NAME=value`) in their environment, but not the caller."""
    wanted = {mark.encode() for mark in marks}
    found = []
    for pid in _all():
        if pid == os.getpid():
            continue
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:  # ended meanwhile, or another user's
            continue
        identity = identify(pid)
        if identity is not None and not wanted.isdisjoint(environment):
            found.append(identity)
    return found


def send(identity: Identity, number: signal.Signals) -> bool:
    """Signal exactly this process; False when it has ended."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(identity.pid)
        try:
            if runs(identity):
                signal.pidfd_send_signal(descriptor, number)
                return True
        finally:
            os.close(descriptor)
    return False


def wait(identities: Iterable[Identity], seconds: float) -> list[Identity]:
    """Block until all of them have ended; return those that still run when the time is over."""
    deadline = time.monotonic() + seconds
    left = []
    for identity in identities:
        try:
            descriptor = os.pidfd_open(identity.pid)
        except ProcessLookupError:
            continue
        try:
            if runs(identity):
                select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        finally:
            os.close(descriptor)
        if runs(identity):
            left.append(identity)
    return left


def end(identities: Iterable[Identity], grace_seconds: float) -> None:
    """Ask them to end, and kill those that still run after the grace; without one, kill them at once."""
    left = list(identities)
    if grace_seconds > 0:
        left = wait([identity for identity in left if send(identity, signal.SIGTERM)], grace_seconds)
    killed = [identity for identity in left if send(identity, signal.SIGKILL)]
    wait(killed, 5.0)


def sweep(marks: Iterable[str], *, grace_seconds: float = 0.0, patience_seconds: float = 10.0) -> int:
    """End every process with one of the marks, and what they fork meanwhile; return how many there were.

    Gives up after the patience: a process that waits for a dead disk can't be killed.
    """
    marks, ended = tuple(marks), set[Identity]()
    deadline = time.monotonic() + patience_seconds
    while (found := marked(marks)) and time.monotonic() < deadline:
        end(found, grace_seconds)
        ended.update(found)
    return len(ended)


class Child:
    """Child process in a session of its own, with its output in a log file.

    When the supervisor ends without stopping it, the kernel sends it `last_signal`. Needs a supervisor with one thread:
    the kernel watches the thread that started the child, and code runs between fork and exec.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], identity: Identity, log: Path) -> None:
        self.name = name
        self.identity = identity
        self.log = log
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._process = process
        self._descriptor = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._reap)

    @classmethod
    def spawn(
        cls,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        environment: Mapping[str, str],
        last_signal: signal.Signals = signal.SIGKILL,
    ) -> Self:
        """Start the command."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=die_with(os.getpid(), last_signal),  # noqa: PLW1509 - the supervisor has one thread
            )
        stat = _stat(process.pid)
        assert stat is not None, "a child stays listed until it is waited for"
        return cls(name, process, Identity(pid=process.pid, started=stat.started), log)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self.exited.set_result(self._process.wait())

    def on_exit(self, call: Callable[["Child"], None]) -> None:
        """Register a call for the end of the process."""
        self.exited.add_done_callback(lambda _: call(self))

    async def stop(self, grace_seconds: float) -> None:
        """End it, by force after the grace; return when it has ended."""
        if self.exited.done():
            return
        self._process.terminate()
        done, _ = await asyncio.wait([self.exited], timeout=grace_seconds)
        if not done:
            self._process.kill()
            await asyncio.wait([self.exited])


def tail(log: Path, lines: int = 12, width: int = 300) -> str:
    """Return the last lines of a log, shortened to what a terminal can show."""
    try:
        with log.open("rb") as source:
            source.seek(max(0, log.stat().st_size - 64 * 1024))
            text = source.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(f"  {line[:width]}" for line in text.splitlines()[-lines:])
