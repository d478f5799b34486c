"""Page as it was sent, in an anonymous file in memory (memfd): the server writes it once, piece by piece while it
arrives, and its worker reads it by descriptor. So a page of 45 MiB is in memory once, not once in every buffer between.

The memory is freed when the last process that has it open closes it; it counts to the container, not to the disk.
"""

import copy
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from ocr_inference.protocol.engine import PageOptions

_PIECE_BYTES = 1 << 18


class _Descriptor:
    """Descriptor that is closed when nothing refers to it any more."""

    def __init__(self, fd: int, freed: Callable[[], None] | None) -> None:
        self.fd = fd
        self._freed = freed

    def __del__(self) -> None:
        os.close(self.fd)
        if self._freed is not None:
            self._freed()


class PageFile:
    """Handle on the file. Its owner closes it; a process that it is handed to has a descriptor of its own."""

    def __init__(self, fd: int, freed: Callable[[], None] | None = None) -> None:
        """Take `fd` over; `freed` is called when it is closed, in the thread that had the last handle."""
        self._descriptor: _Descriptor | None = _Descriptor(fd, freed)

    @classmethod
    def create(cls, freed: Callable[[], None] | None = None) -> Self:
        """Create an empty one; raises `OSError` where the system has no descriptor left."""
        return cls(os.memfd_create("ocr-page", os.MFD_CLOEXEC), freed)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Self:
        """Create one that holds `data`."""
        page = cls.create()
        try:
            page.write(data)
        except BaseException:
            page.close()
            raise
        return page

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor; raises `ValueError` after `close`."""
        if self._descriptor is None:
            raise ValueError("the page was closed")
        return self._descriptor.fd

    @property
    def size(self) -> int:
        """Bytes that were written."""
        return os.fstat(self.fileno()).st_size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`; raises `OSError` where memory runs out."""
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[os.write(self.fileno(), rest) :]

    def share(self) -> Self:
        """Return another handle on the same descriptor, which is closed with the last of them."""
        self.fileno()
        return copy.copy(self)

    def duplicate(self) -> Self:
        """Return another handle on the same bytes, for reading, at a position of its own: closing one leaves the other
        open. Raises `OSError` where the system has no descriptor left."""
        return type(self)(os.open(f"/proc/self/fd/{self.fileno()}", os.O_RDONLY | os.O_CLOEXEC))

    def pieces(self) -> Iterator[bytes]:
        """Yield its bytes from the start; moves no position."""
        offset = 0
        while piece := os.pread(self.fileno(), _PIECE_BYTES, offset):
            yield piece
            offset += len(piece)

    def cut(self, size: int) -> None:
        """Drop what comes after the first `size` bytes."""
        os.ftruncate(self.fileno(), size)
        os.lseek(self.fileno(), size, os.SEEK_SET)

    def send(self, other: Self, start: int, size: int) -> int:
        """Append some of the `size` bytes from `start` to another page; returns how many. The copy is the system's."""
        return os.sendfile(other.fileno(), self.fileno(), start, size)

    def open(self) -> BinaryIO:
        """Open it for reading from its start, at a position of its own; the caller closes that."""
        return Path(f"/proc/self/fd/{self.fileno()}").open("rb")

    def close(self) -> None:
        """Close this handle; a second time does nothing."""
        self._descriptor = None


@dataclass(frozen=True)
class Page:
    """Page, and what is requested of it, as the server passes it on. Its file is complete, and closed by its owner."""

    file: PageFile
    options: PageOptions

    def share(self) -> Self:
        """Return it with a handle of its own."""
        return replace(self, file=self.file.share())

    @cached_property
    def digest(self) -> bytes:
        """Digest of the file and of all that is requested. Takes a fifth of a second for 45 MiB the first time."""
        requested = msgspec.structs.replace(self.options, read_at=None)
        digest = hashlib.sha256(msgspec.msgpack.encode(requested))
        for piece in self.file.pieces():
            digest.update(piece)
        return digest.digest()
