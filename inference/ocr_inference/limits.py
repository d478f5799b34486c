"""What this process may use of the machine: cores and host memory, by affinity and by control groups.

A container's limits are files of control groups, of version 1 or 2, where `/proc/self/mountinfo` says. Groups are
nested, and the tightest counts: a pod's above its containers', a slice of a service manager above both. Cpusets need no
reading, since the kernel keeps affinity within them.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MAX_THREADS: Final = 8
"""Most threads: more gain little for a page at a time, and take the cores of the models beside this one."""
ROOT: Final = Path("/")
_NO_LIMIT: Final = 1 << 62
"""Bytes from which a limit of version 1 is none: it says the largest number of whole pages."""
_RAN_OUT: Final = (
    "out of memory",
    "can't allocate memory",
    "Cannot allocate memory",  # the system's words, where a file can't be mapped
    "std::bad_alloc",  # onnxruntime
    "Failed to allocate memory",  # onnxruntime, arenas
    "Insufficient memory",  # OpenCV
)
"""Texts of errors by which libraries say it."""


def threads(root: Path = ROOT) -> int:
    """Return how many threads to compute with: one for each core that this process may use."""
    return max(1, min(MAX_THREADS, round(cores(root))))


def cores(root: Path = ROOT) -> float:
    """Return how many cores this process may use, by affinity and by quota."""
    return min([float(len(os.sched_getaffinity(0))), *(_quota(group) for group in groups("cpu", root))])


def memory_limit(root: Path = ROOT) -> int | None:
    """Return the tightest limit of this process's control groups, in bytes; None without one."""
    found = [_limit(group) for group in groups("memory", root)]
    return min((each for each in found if each is not None), default=None)


def memory_left(root: Path = ROOT) -> int:
    """Return bytes that may still be taken: of the machine's available memory and, in a container with a limit, of
    that. Cached files count as free, since the kernel drops them."""
    machine = _fields(root / "proc/meminfo")["MemAvailable:"] * 1024
    return int(max(0, min(machine, *(_left(group) for group in groups("memory", root)), machine)))


class OutOfHostMemory(MemoryError):
    """Host memory that a process would take beyond its limits; the message has the way out."""


def require_memory(nbytes: int, what: str, root: Path = ROOT) -> None:
    """Raise `OutOfHostMemory` where so much isn't left: beyond a container's limit the kernel kills processes, since
    Kubernetes 1.28 all of the container's."""
    left = memory_left(root)
    if nbytes > left:
        raise OutOfHostMemory(
            f"{what} needs {nbytes} bytes of host memory, {left} are left; raise the pod's memory limit"
        )


def ran_out(error: BaseException) -> bool:
    """Whether an error means that memory ran out: most libraries have no type for that, only words."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return any(words in str(error) for words in _RAN_OUT)


def groups(controller: str, root: Path = ROOT) -> list[Path]:
    """Return the folders of this process's group and of all above it that can be seen; none where that can't be
    read."""
    own: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        own |= dict.fromkeys(names.split(","), path)
    found: dict[str, list[Path]] = {}
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        words = before.split()
        if len(words) < 5:
            continue
        if kind == "cgroup" and controller in options.split()[-1].split(",") and controller in own:
            found["1"] = _upwards(root, words[4], words[3], own[controller])
        elif kind == "cgroup2":
            found["2"] = _upwards(root, words[4], words[3], own.get("", "/"))
    # A controller is in one of the two.
    return found.get("1") or found.get("2") or []


def _upwards(root: Path, mounted_at: str, mounted: str, own: str) -> list[Path]:
    """Return the group's folder and those above it, up to where groups are mounted: `mounted` is the group there."""
    top = root / mounted_at.lstrip("/")
    base = mounted.rstrip("/")
    inside = own.removeprefix(base) if own == base or own.startswith(f"{base}/") else ""
    parts = [part for part in inside.split("/") if part]
    if ".." in parts:  # a group outside of what this namespace sees
        parts = []
    return [top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _quota(group: Path) -> float:
    """Return the cores that a group may use; infinity without a quota."""
    limit = " ".join(_lines(group / "cpu.max")).split()
    if not limit:
        limit = [line for name in ("quota", "period") for line in _lines(group / f"cpu.cfs_{name}_us")]
    if len(limit) != 2 or not (limit[0].isdecimal() and limit[1].isdecimal()):
        return float("inf")  # `max`, or -1
    return int(limit[0]) / max(1, int(limit[1]))


def _limit(group: Path) -> int | None:
    """Return the bytes that a group may take; None without a limit, which version 1 writes as a very large number."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        for line in _lines(group / name):
            return int(line) if line.isdecimal() and int(line) < _NO_LIMIT else None
    return None


def _left(group: Path) -> float:
    """Return the bytes that a group may still take; infinity without a limit."""
    for limit, used, prefix in (
        ("memory.max", "memory.current", ""),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    ):
        numbers = [line for name in (limit, used) for line in _lines(group / name)]
        if len(numbers) == 2 and numbers[0].isdecimal() and int(numbers[0]) < _NO_LIMIT:
            stat = _fields(group / "memory.stat")  # a quarter of a millisecond
            files = stat.get(f"{prefix}active_file", 0) + stat.get(f"{prefix}inactive_file", 0)
            return int(numbers[0]) - int(numbers[1]) + files
    return float("inf")


def _fields(file: Path) -> dict[str, int]:
    """Parse lines of a name and a number."""
    lines = (line.split() for line in _lines(file))
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def _lines(file: Path) -> Iterator[str]:
    """Yield lines; none of a file that isn't there."""
    try:
        yield from file.read_text(errors="replace").splitlines()
    except OSError:
        return
