"""The host tier: a model's weights in host memory, as a file in memory (memfd) that outlives the worker process.

The server creates it and hands the descriptor to each worker of the model in turn. Nothing is ever written to a disk,
and the memory is freed when the file is emptied or the last process that has it open ends. It has exactly the size that
it's given; its pages are the system's shared memory, counted to the process that touches them first.
"""

import contextlib
import mmap
import os
from pathlib import Path
from typing import Final, Self

_MADV_POPULATE_READ: Final = 22
"""Constant of Linux 5.14 that Python has no name for yet."""
CGROUP: Final = Path("/sys/fs/cgroup")
MEMINFO: Final = Path("/proc/meminfo")


class HostTier:
    """Handle on the file, in the server (`create`) or in a worker (`HostTier(fd)`)."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def create(cls, name: str) -> Self:
        """Create an empty one; `name` is in `/proc/*/maps`."""
        return cls(os.memfd_create(f"ocr-weights-{name}", os.MFD_CLOEXEC))

    @property
    def path(self) -> str:
        """Path at which this process can open it as a file, for libraries that know only paths."""
        return f"/proc/self/fd/{self.fd}"

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    @property
    def resident_bytes(self) -> int:
        """Memory that it takes now: pages are taken as they're first written."""
        return os.fstat(self.fd).st_blocks * 512

    def resize(self, size: int) -> None:
        """Give it `size` bytes. Memory beyond is freed at once, also where a process has it mapped (and is killed by
        SIGBUS when it touches it later), except pages that are pinned."""
        os.ftruncate(self.fd, size)

    def map(self) -> mmap.mmap:
        """Map all of it, writable and shared with every other process that maps it. Only one process may fill it; from
        then on it is never written.

        Huge pages are requested; nodes whose `shmem_enabled` is `advise` grant them, others don't. Filling pages ahead
        of reading (`MADV_POPULATE_WRITE`) was slower than having the reads do it, in parallel (docs/weights.md).
        """
        tier = mmap.mmap(self.fd, self.size)
        with contextlib.suppress(OSError):
            tier.madvise(mmap.MADV_HUGEPAGE)
        return tier

    @staticmethod
    def enter_pages(tier: mmap.mmap) -> None:
        """Have the kernel enter all pages of a full tier in this process's tables. The first reads have no faults then,
        which are a third of a copy's time. Older kernels do nothing."""
        with contextlib.suppress(OSError):
            tier.madvise(_MADV_POPULATE_READ)

    def close(self) -> None:
        os.close(self.fd)


def available_bytes(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int:
    """Return bytes that may still be taken: of the machine's available memory and, in a container with a limit, of
    that. Cached files count as free, since the kernel drops them."""
    left = _fields(meminfo)["MemAvailable:"] * 1024
    with contextlib.suppress(OSError, ValueError):  # no limit: the file is missing, or says `max`
        limit = int((cgroup / "memory.max").read_text())
        taken = int((cgroup / "memory.current").read_text())
        stat = _fields(cgroup / "memory.stat")
        left = min(left, limit - taken + stat["active_file"] + stat["inactive_file"])
    return max(0, left)


def require_available(nbytes: int, cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> None:
    """Raise `MemoryError` where so much isn't available: beyond a container's limit the kernel kills a process of its
    choice."""
    left = available_bytes(cgroup, meminfo)
    if nbytes > left:
        message = (
            f"the weights need {nbytes} bytes of host memory, {left} are left; raise the pod's memory limit"
        )
        raise MemoryError(message)


def _fields(file: Path) -> dict[str, int]:
    """Parse lines of a name and a number."""
    lines = (line.split() for line in file.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}
