"""The host tier: a model's weights in host memory, as a file in memory (memfd) that outlives the worker process.

The server creates it and hands the descriptor to each worker of the model in turn. Nothing is ever written to a
disk, and the memory is given back when the file is emptied or the last process that has it open ends.
"""

import os
from typing import Self


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

    def resize(self, size: int) -> None:
        """Give it `size` bytes; 0 gives all memory back to the system, unless somebody has it mapped."""
        os.ftruncate(self.fd, size)

    def close(self) -> None:
        os.close(self.fd)
