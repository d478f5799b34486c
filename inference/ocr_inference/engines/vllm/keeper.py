"""A process between a worker and vLLM that ends all of vLLM's processes when one of the two has ended, however.

The kernel tells a process's end to its children only (`PR_SET_PDEATHSIG`), and vLLM's server has children that live on,
with all their memory, when it is killed. This process adopts them (`PR_SET_CHILD_SUBREAPER`), so it knows all of them
and collects them, and it notices the worker's end by a socket that closes with it.

It is run by its file, imports the standard library alone, and so starts in 20 ms and takes 8 MiB. Its arguments: the
descriptor of that socket, the folder to remove in the end, and the command. Its exit code is the command's; 128 and a
signal's number where one ended it.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MARK: Final = "OCR_VLLM_KEEPER"
"""Variable in the environment of all that a keeper started: its process id and when it began, which name it for as long
as the machine runs, and the namespace that counts them. A machine sees the processes of its containers, too, where
their keepers have other numbers."""
STOP: Final = b"s"
"""Sent by the worker: end the server in its own way, then all that is left."""
GRACE_SECONDS: Final = 10.0
"""Time for the server to end in its own way; without clients it takes 2 to 3 s."""
TRACKER_SECONDS: Final = 2.0
"""Time for Python's resource trackers to remove shared memory of processes that were killed."""
_TRACKER: Final = b"multiprocessing.resource_tracker"
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_POLL_SECONDS: Final = 0.02


def main(arguments: list[str]) -> int:
    """Run the command until it ends or the worker wants it to end; return its exit code."""
    worker = socket.socket(fileno=int(arguments[0]))
    folder, command = arguments[1], arguments[2:]
    # It has a session of its own, for SIGKILL to a group; of other signals, too, only the worker ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    server = _started(command)
    ended = os.pidfd_open(server)
    try:
        if _wait(worker, ended) == STOP:
            os.kill(server, signal.SIGTERM)
            select.select([ended], [], [], GRACE_SECONDS)
    finally:
        code = end_children(server)
        shutil.rmtree(folder, ignore_errors=True)
    return code


def identity(pid: int) -> str | None:
    """Return what names a process for as long as the machine runs; None where none of that number lives."""
    try:
        # After the command's name, which may have blanks and brackets.
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return None
    state, began = fields[0], fields[19]
    return None if state in "ZX" else f"{pid}:{began}"


def namespace() -> str:
    """Return the name of this process's namespace of process ids; empty where the system has none."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(command: list[str]) -> int:
    """Start the command in a session and group of its own; return its process id."""
    here = os.getpid()
    mark = f"{identity(here)}:{namespace()}"
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == here:
            os.execve(command[0], command, {**os.environ, MARK: mark})  # noqa: S606 no shell is what is wanted
    except OSError as error:
        sys.stderr.write(f"{command[0]} can't be started: {error.strerror}\n")
        sys.stderr.flush()
    os._exit(127)


def _wait(worker: socket.socket, ended: int) -> bytes:
    """Wait for the server's end or the worker's word; return that word, empty where the worker has ended."""
    readable, _, _ = select.select([worker.fileno(), ended], [], [])
    if worker.fileno() not in readable:
        return b""
    try:
        return worker.recv(1)
    except OSError:
        return b""


def end_children(server: int) -> int:
    """Kill all children and what they started, and collect them; return the exit code of the first one."""
    code = 0
    began = time.monotonic()
    while True:
        patient = time.monotonic() - began < TRACKER_SECONDS
        for pid in descendants(os.getpid()):
            if not (patient and _TRACKER in _command_line(pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        try:
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == server:
                    code = os.waitstatus_to_exitcode(found[1])
        except ChildProcessError:
            return code if code >= 0 else 128 - code
        # Not for an event: what a killed process leaves is adopted a moment later.
        time.sleep(_POLL_SECONDS)


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes that this one and theirs have started and that haven't been collected."""
    for thread in _entries(f"/proc/{pid}/task"):
        try:
            children = Path(f"/proc/{pid}/task/{thread}/children").read_text(encoding="ascii")
        except OSError:
            continue
        for child in map(int, children.split()):
            yield child
            yield from descendants(child)


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
