"""Descriptors of processes: how many are open, and what happens where there are no more."""

import contextlib
import gc
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


def open_descriptors(pid: int | None = None) -> int:
    """Number of descriptors of a process, by default this one."""
    return len(_numbers(pid or os.getpid()))


def _numbers(pid: int) -> set[int]:
    folder = f"/proc/{pid}/fd"
    # One that this function opened to read the folder is closed by now.
    return {int(name) for name in os.listdir(folder) if os.path.lexists(f"{folder}/{name}")}


def page_files(pid: int | None = None, *, collect: bool = True) -> int:
    """Number of pages that a process has open; in this one, no more than are in use, unless `collect` is false."""
    if pid is None and collect:
        gc.collect()
    folder, count = f"/proc/{pid or os.getpid()}/fd", 0
    for number in _numbers(pid or os.getpid()):
        with contextlib.suppress(OSError):
            count += "ocr-page" in os.readlink(f"{folder}/{number}")
    return count


@contextmanager
def no_more_descriptors(pid: int | None = None, free: int = 0) -> Iterator[None]:
    """Have a process, by default this one, open no more files than it has and `free` ones."""
    pid = pid or os.getpid()
    used = _numbers(pid)
    limit = sorted(set(range(len(used) + free + 1)) - used)[free]
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
