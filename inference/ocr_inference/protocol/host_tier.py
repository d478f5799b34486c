"""The host tier: a model's weights in host memory, as a file in memory (memfd) that outlives the worker process.

The server creates it and hands the descriptor to each worker of the model in turn. Nothing is ever written to a disk,
and the memory is freed when the file is emptied or the last process that has it open ends. It has exactly the size that
it's given; its pages are the system's shared memory, counted to the process that touches them first.
"""

import contextlib
import mmap
import os
from typing import Final, Self

_MADV_POPULATE_READ: Final = 22
"""Constant of Linux 5.14 that Python has no name for yet."""


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
