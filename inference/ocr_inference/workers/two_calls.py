"""Two calls of the C library in one: memory is copied to a file and the file mapped in its place, and nothing else of
this process runs between the two.

Python can't do that by itself: whatever it runs writes to its own memory, counts of references for one, and what it
wrote after the copy would be lost. So the C library is given both calls beforehand, each as a context of its own
(makecontext(3)) that goes on with the next one. POSIX lets these pass only an `int`; glibc passes pointers on the
`MACHINES`, as its manual page says of x86-64 and `tests` show.

Nothing can go wrong unseen: `memcpy` into a mapped file either copies all or the kernel ends the process (SIGBUS), and
`mmap` either puts the file there or leaves the memory as it was; if it left a hole, its first use would end the
process.
Call it in a process with a single thread only: what another one writes in between would be lost.
"""

import ctypes
import mmap
import os
import platform
from typing import Final, Self

MACHINES: Final = ("x86_64", "aarch64")
_CONTEXT_BYTES: Final = 16 << 10
"""More than `ucontext_t` has on each machine (968 and 4,560)."""
_STACK_BYTES: Final = 64 << 10
_MADV_COLD: Final = 20
MAP_FIXED: Final = 0x10
MAP_NORESERVE: Final = 0x4000
_FAILED: Final = ctypes.c_void_p(-1).value


class _Context(ctypes.Structure):
    """Beginning of `ucontext_t`."""

    _fields_ = (
        ("flags", ctypes.c_ulong),
        ("link", ctypes.c_void_p),
        ("stack", ctypes.c_void_p),
        ("stack_flags", ctypes.c_int),
        ("stack_bytes", ctypes.c_size_t),
    )


def supported() -> bool:
    """Return whether this machine and its C library have what is needed."""
    try:
        is_glibc = (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):
        is_glibc = False
    return is_glibc and platform.machine() in MACHINES and ctypes.sizeof(ctypes.c_void_p) == 8


class TwoCalls:
    """Maps files in the place of memory. A context manager: leaving it frees what it works with."""

    def __init__(self) -> None:
        """Raise `OSError` where the system has no memory, or does otherwise than it promises."""
        # With Python's lock held, as nothing of Python must run.
        self._libc = ctypes.PyDLL(None)
        self._libc.mmap.restype = ctypes.c_void_p
        self.size = 3 * _CONTEXT_BYTES + 2 * _STACK_BYTES
        self.start = self.map(0, self.size, -1, 0, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unmap(self.start, self.size)

    def map(
        self,
        address: int,
        size: int,
        descriptor: int,
        offset: int,
        *,
        protection: int = mmap.PROT_READ | mmap.PROT_WRITE,
        flags: int = mmap.MAP_SHARED,
    ) -> int:
        """Map as mmap(2) does; returns the address. Raises `OSError`."""
        found: int | None = self._libc.mmap(*_words(address, size, protection, flags, descriptor, offset))
        if found is None or found == _FAILED:
            raise OSError(f"the system maps no {size} bytes")
        return found

    def unmap(self, address: int, size: int) -> None:
        self._libc.munmap(*_words(address, size))

    def replace(
        self, address: int, size: int, descriptor: int, offset: int, *, protection: int, reserve: bool = True
    ) -> bool:
        """Copy `size` bytes at `address` to the file and map them from there, privately: later writes stay in this
        process, and the file as it is. All of them are multiples of the system's page size. Returns whether it was
        done: not where a part of that memory has been freed by now. Raises `OSError` before anything is done."""
        if not self._is_mapped(address, size):
            return False
        copy = self.map(0, size, descriptor, offset)
        flags = mmap.MAP_PRIVATE | MAP_FIXED | (0 if reserve else MAP_NORESERVE)
        here, first, second = (self.start + index * _CONTEXT_BYTES for index in range(3))
        stacks = self.start + 3 * _CONTEXT_BYTES
        self._prepare(first, second, stacks, "memcpy", copy, address, size)
        arguments = (address, size, protection, flags, descriptor, offset)
        self._prepare(second, here, stacks + _STACK_BYTES, "mmap", *arguments)
        self._libc.swapcontext(*_words(here, first))
        # What was written just now would count as in use otherwise, and a kubelet counts that as the pod's.
        self._libc.madvise(*_words(copy, size, _MADV_COLD))
        self.unmap(copy, size)
        return True

    def _is_mapped(self, address: int, size: int) -> bool:
        """Return whether this process has all of that memory: copying what it has freed would end it."""
        pages = ctypes.create_string_buffer(size // mmap.PAGESIZE)
        mincore = self._libc.mincore
        return not mincore(*_words(address, size), pages)

    def _prepare(self, context: int, then: int, stack: int, function: str, *arguments: int) -> None:
        self._libc.getcontext(*_words(context))
        begin = _Context.from_address(context)
        begin.link, begin.stack, begin.stack_bytes = then, stack, _STACK_BYTES
        called = ctypes.cast(getattr(self._libc, function), ctypes.c_void_p)
        self._libc.makecontext(*_words(context), called, ctypes.c_int(len(arguments)), *_words(*arguments))


def _words(*values: int) -> tuple[ctypes.c_long, ...]:
    return tuple(ctypes.c_long(value) for value in values)
