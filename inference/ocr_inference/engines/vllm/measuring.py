"""Memory that vLLM's processes take, measured from outside: what vLLM says of itself is not believed."""

import os
from collections.abc import Collection
from pathlib import Path

from ocr_inference.device import nvml

_PSS = b"Pss:"


def host_bytes(pids: Collection[int], proc: Path = Path("/proc")) -> int:
    """Return the processes' memory (PSS), in bytes: what they share with each other counts once."""
    return sum(_pss(proc / str(pid)) for pid in pids)


def device_used_bytes(uuid: str) -> int:
    """Return what all processes together hold of a GPU, in bytes. Raises `NoDevice`.

    Not what each of them holds: within a container the driver names them by numbers of the node's.
    """
    with nvml.opened() as driver:
        return driver.by_uuid(uuid).memory().used


def _pss(folder: Path) -> int:
    """Return 0 of a process that has ended."""
    try:
        for line in (folder / "smaps_rollup").read_bytes().splitlines():
            if line.startswith(_PSS):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return _rss(folder)
    return 0


def _rss(folder: Path) -> int:
    """Return the resident set, where the kernel hides the rest: in some sandboxes."""
    try:
        return int((folder / "statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
