"""The host tier: a model's weights in host memory, as a file in memory (memfd) that outlives the worker process.

The server creates it and hands the descriptor to each worker of the model in turn. Nothing is ever written to a
disk, and the memory is given back when the file is emptied or the last process that has it open ends. It has exactly
the size that it's given; its pages are the system's shared memory, counted to whoever touches them first.
"""

import contextlib
import mmap
import os
from pathlib import Path
from typing import Final, Self

_MADV_POPULATE_READ: Final = 22
"""Of Linux 5.14; Python has no name for it yet."""
CGROUP: Final = Path("/sys/fs/cgroup")
MEMINFO: Final = Path("/proc/meminfo")


class HostTier:
    """A handle on the file, in the server (`create`) or in a worker (`HostTier(fd)`)."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def create(cls, name: str) -> Self:
        """A new, empty one; `name` shows in `/proc/*/maps`."""
        return cls(os.memfd_create(f"ocr-weights-{name}", os.MFD_CLOEXEC))

    @property
    def path(self) -> str:
        """Where this process can open it as a file, also by libraries that know only paths."""
        return f"/proc/self/fd/{self.fd}"

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    @property
    def resident_bytes(self) -> int:
        """Memory that it takes now: pages are taken as they're first written."""
        return os.fstat(self.fd).st_blocks * 512

    def resize(self, size: int) -> None:
        """Give it `size` bytes. What lies beyond goes back to the system at once, also where somebody has it mapped
        (who touches that place later is killed by SIGBUS) but for pages that are pinned."""
        os.ftruncate(self.fd, size)

    def map(self) -> mmap.mmap:
        """All of it, writable and shared with every other process that maps it. Whoever fills it is alone with it;
        from then on nobody writes.

        Huge pages are asked for; nodes whose `shmem_enabled` is `advise` grant them, others don't. Filling pages ahead
        of reading (`MADV_POPULATE_WRITE`) was slower than having the reads do it, in parallel (docs/weights.md).
        """
        tier = mmap.mmap(self.fd, self.size)
        with contextlib.suppress(OSError):
            tier.madvise(mmap.MADV_HUGEPAGE)
        return tier

    @staticmethod
    def enter_pages(tier: mmap.mmap) -> None:
        """Have the kernel enter all pages of a full tier in this process's tables: who reads them first has no faults
        then, which are a third of a copy's time. Older kernels do nothing."""
        with contextlib.suppress(OSError):
            tier.madvise(_MADV_POPULATE_READ)

    def close(self) -> None:
        os.close(self.fd)


def room(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int:
    """Bytes that may still be taken: of the machine's available memory and, in a container with a limit, of that.
    Cached files count as free, since they make way."""
    left = _fields(meminfo)["MemAvailable:"] * 1024
    with contextlib.suppress(OSError, ValueError):  # no limit: the file is missing, or says `max`
        limit = int((cgroup / "memory.max").read_text())
        taken = int((cgroup / "memory.current").read_text())
        stat = _fields(cgroup / "memory.stat")
        left = min(left, limit - taken + stat["active_file"] + stat["inactive_file"])
    return max(0, left)


def require_room(nbytes: int, cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> None:
    """Raise `MemoryError` where so much would be too much: beyond a container's limit the system kills, and whom it
    likes."""
    left = room(cgroup, meminfo)
    if nbytes > left:
        message = (
            f"the weights need {nbytes} bytes of host memory, {left} are left; raise the pod's memory limit"
        )
        raise MemoryError(message)


def _fields(file: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    lines = (line.split() for line in file.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}
