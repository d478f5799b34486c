"""The host tier: a model's weights in host memory, as a file in memory (memfd) that outlives the worker process.

The server creates it and hands the descriptor to each worker of the model in turn. Nothing is ever written to a disk,
and the memory is freed when the file is emptied or the last process that has it open ends. It has exactly the size that
it's given; its pages are the system's shared memory, counted to the process that touches them first.

Where servers of a node share weights, the file in memory only refers to a shared image
(`checkpoints.weights.shared_image`), which is a host tier that can only be read.
"""

import contextlib
import mmap
import os
import struct
from typing import Final, Self

_MADV_POPULATE_READ: Final = 22
"""Constant of Linux 5.14 that Python has no name for yet."""

_REFERENCE: Final = struct.Struct("<8s32s")
_MAGIC: Final = b"ocrshare"


class HostTier:
    """Handle on the file, in the server (`create`) or in a worker (`HostTier(fd)`)."""

    def __init__(self, fd: int, *, read_only: bool = False) -> None:
        self.fd = fd
        self.read_only = read_only
        """Whether it is a file that others have mapped, too, opened only to be read."""

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

    @property
    def refers_to(self) -> bytes | None:
        """Digest of the key of the shared image that has the weights; None where it has them itself, or none."""
        if self.size != _REFERENCE.size:
            return None
        magic, digest = _REFERENCE.unpack(os.pread(self.fd, _REFERENCE.size, 0))
        return bytes(digest) if magic == _MAGIC else None

    def refer_to(self, digest: bytes) -> None:
        """Free the memory, and refer to the shared image of this key from now on."""
        self.resize(0)
        os.pwrite(self.fd, _REFERENCE.pack(_MAGIC, digest), 0)

    def map(self, *, for_device: bool = False) -> mmap.mmap:
        """Map all of it, writable and shared with every other process that maps it. Only one process may fill it; from
        then on it is never written.

        A read-only one is mapped so that nothing reaches the file: a write copies the page for this process, and
        `for_device` it is a fault. A device's driver pins what is writable by copying it all first.

        Huge pages are requested; nodes whose `shmem_enabled` is `advise` grant them, others don't. Filling pages ahead
        of reading (`MADV_POPULATE_WRITE`) was slower than having the reads do it, in parallel (docs/weights.md).
        """
        if self.read_only:
            access = mmap.ACCESS_READ if for_device else mmap.ACCESS_COPY
            return mmap.mmap(self.fd, self.size, access=access)
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
