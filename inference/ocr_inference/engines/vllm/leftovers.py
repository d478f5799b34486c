"""Processes of vLLM whose keeper was killed: found by the mark in their environment, and killed."""

import contextlib
import logging
import os
import shutil
import signal
from pathlib import Path

from ocr_inference.engines.vllm import keeper

log = logging.getLogger(__name__)

FOLDER = "ocr-vllm-"
"""How the name of a server's working folder begins."""


def end() -> list[int]:
    """Kill vLLM's processes of this user that a keeper has left behind, and remove their folder; returns their process
    ids.

    A keeper that lives looks after its own. Processes of a container are left alone where this one is outside of it.
    """
    found: list[int] = []
    folders: set[Path] = set()
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        owner = _keeper_of(pid)
        if owner is None or keeper.identity(int(owner.partition(":")[0])) == owner:
            continue
        with contextlib.suppress(OSError):
            folders.add(Path(os.readlink(f"/proc/{pid}/cwd")))
            os.kill(pid, signal.SIGKILL)
            found.append(pid)
    for folder in folders:
        if folder.name.startswith(FOLDER):
            shutil.rmtree(folder, ignore_errors=True)
    if found:
        log.warning("ended %d processes of vLLM that were left behind by one that was killed", len(found))
    return found


def _keeper_of(pid: int) -> str | None:
    """Return the identity of a process's keeper; None where it has none in this namespace, or is another user's."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    start = f"{keeper.MARK}=".encode()
    for entry in environment.split(b"\0"):
        number, _, rest = entry.removeprefix(start).decode("ascii", "replace").partition(":")
        began, _, namespace = rest.partition(":")
        if entry.startswith(start) and number.isdecimal() and namespace == keeper.namespace():
            return f"{number}:{began}"
    return None
