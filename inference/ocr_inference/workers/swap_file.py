"""A file on the disk that takes over the memory of a process that waits.

Imports leave hundreds of megabytes that are hardly used while nothing is asked. A system with swap would put them
there, but pods have none. So a forkserver does it for itself: its memory is written to a file without a name, which is
then mapped in its place. From then on the pages are the system's to keep or to drop, as those of any file: they count
as cache, not as the process's, and what a fork uses again comes from there.

Only a forkserver does it, which has one thread, no secrets and no pages of documents.
"""

import contextlib
import ctypes
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from ocr_inference.workers import memory_map
from ocr_inference.workers.two_calls import TwoCalls, supported

FOLDERS: Final = ("/var/tmp",)  # noqa: S108 files without a name
"""Tried after the folder for temporary files, which may be in memory."""
PIECE_BYTES: Final = 16 << 20
"""Memory that is there twice while it is being replaced."""
BEYOND_BYTES: Final = 1 << 36
"""Size of the file beyond its content, without a block of the disk: a mapping that the C library makes longer
(`realloc`) needs something under it."""
READ_AHEAD_BYTES: Final = 128 << 10
"""Kernels read no more ahead for one advice, whatever its size: what is beyond would be read while a page waits."""
WRITE_OUT_BYTES: Final = 2 << 20
"""What the disk is waited for at once: a process that is wanted meanwhile waits for no more."""
FREE_PART: Final = 0.15
"""Part of the disk that has to be left free: a kubelet evicts pods at 10 %."""
_MADV_WILLNEED: Final = 3
_MADV_DONTNEED: Final = 4
_MADV_COLD: Final = 20
_MADV_PAGEOUT: Final = 21
_SYNC_WAIT_BEFORE: Final = 1
_SYNC_WRITE: Final = 2
_SYNC_WAIT_AFTER: Final = 4
_SMAPS: Final = Path("/proc/self/smaps")


class CantSwap(Exception):
    """Says why the memory stays."""


def swap_out(folders: Sequence[str] = (), *, wanted: Callable[[], bool] = lambda: False) -> int:
    """Write this process's memory to a file in the first suitable folder and map it from there; returns bytes.

    Where the process is `wanted`, the rest stays in memory, and can be swapped out later. That is asked between pieces:
    a slow disk lets one be written as fast as it writes itself.

    Raises `CantSwap`. This process must have a single thread, and no handler of a signal.
    """
    if not supported():
        raise CantSwap("it takes glibc on x86-64 or arm64")
    try:
        return _swap_out(folders, wanted)
    except OSError as error:  # what was replaced stays replaced
        raise CantSwap(str(error)) from error


def _swap_out(folders: Sequence[str], wanted: Callable[[], bool]) -> int:
    if len(os.listdir("/proc/self/task")) > 1:
        raise CantSwap("the process has several threads")
    found = memory_map.to_swap_out(memory_map.parse(_SMAPS.read_text()))
    with TwoCalls() as calls:
        ranges = [
            (low, high, each)
            for each in found
            for low, high in memory_map.without(each, calls.start, calls.start + calls.size)
        ]
        total = sum(high - low for low, high, _ in ranges)
        with _file(folders or (tempfile.gettempdir(), *FOLDERS), total) as descriptor:
            replaced = _replace(calls, ranges, descriptor, wanted)
            _write_out(descriptor, total, wanted)
            return replaced


def give_back() -> None:
    """Have the system take what this process only read of files: libraries, and what it swapped out. It stays in the
    system's cache and comes back from there when it is used. Safe beside other threads. Does nothing where the process
    can't open another file."""
    try:
        mappings = memory_map.parse(_SMAPS.read_text())
    except OSError:
        return
    for each in memory_map.to_drop(mappings):
        # Cold first, so that the cache doesn't count it as recently used.
        _advise(each.start, each.size, _MADV_COLD, _MADV_DONTNEED)
    for each in memory_map.to_page_out(mappings):
        # What was written stays. The rest leaves the cache, too, and is read into it again while nothing waits for it.
        cached = _cached(each)
        _advise(each.start, each.size, _MADV_PAGEOUT)
        for offset in range(0, each.size, READ_AHEAD_BYTES):
            if any(cached[offset // mmap.PAGESIZE : (offset + READ_AHEAD_BYTES) // mmap.PAGESIZE]):
                size = min(READ_AHEAD_BYTES, each.size - offset)
                _advise(each.start + offset, size, _MADV_WILLNEED)


def _write_out(descriptor: int, size: int, wanted: Callable[[], bool]) -> None:
    """Have the disk take the file now, until `wanted`: kernels leave it for half a minute, and what no disk has yet,
    `give_back` can't give back."""
    libc = ctypes.CDLL(None)

    def sync(
        offset: int, length: int, flags: int
    ) -> None:  # what a file system doesn't take comes later by itself
        libc.sync_file_range(descriptor, ctypes.c_int64(offset), ctypes.c_int64(length), ctypes.c_uint(flags))

    sync(0, size, _SYNC_WRITE)
    for offset in range(0, size, WRITE_OUT_BYTES):
        if wanted():
            return
        sync(offset, min(WRITE_OUT_BYTES, size - offset), _SYNC_WAIT_BEFORE | _SYNC_WRITE | _SYNC_WAIT_AFTER)


def _cached(mapping: memory_map.Mapping) -> bytes:
    """Return for each page of a mapping whether memory has it: 1, else 0."""
    pages = ctypes.create_string_buffer(mapping.size // mmap.PAGESIZE)
    ctypes.CDLL(None).mincore(ctypes.c_void_p(mapping.start), ctypes.c_size_t(mapping.size), pages)
    return pages.raw


def _advise(start: int, size: int, *advices: int) -> None:
    """Advise the system, which may do nothing of it: older kernels, files of other users."""
    libc = ctypes.CDLL(None)
    for advice in advices:
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), advice)


def _replace(
    calls: TwoCalls,
    ranges: Iterable[tuple[int, int, memory_map.Mapping]],
    descriptor: int,
    wanted: Callable[[], bool],
) -> int:
    """Replace what of the ranges is still there, until `wanted`; returns bytes.

    Python has freed some since it read what there is: the reading itself takes a megabyte, which may be the end of the
    heap.
    """
    offset = replaced = 0
    for low, high, mapping in ranges:
        protection = sum(
            bit
            for letter, bit in (("r", mmap.PROT_READ), ("w", mmap.PROT_WRITE), ("x", mmap.PROT_EXEC))
            if letter in mapping.perms
        )
        reserve = memory_map.NO_RESERVE not in mapping.flags
        for start in range(low, high, PIECE_BYTES):
            if wanted():
                os.ftruncate(descriptor, offset)  # gives back what was allocated
                os.ftruncate(descriptor, offset + BEYOND_BYTES)
                return replaced
            size = min(PIECE_BYTES, high - start)
            pieces = [(start, size)]
            while pieces:
                at, length = pieces.pop()
                where = offset + at - start
                if calls.replace(at, length, descriptor, where, protection=protection, reserve=reserve):
                    replaced += length
                elif length > mmap.PAGESIZE:  # find what is gone by halves
                    half = length // mmap.PAGESIZE // 2 * mmap.PAGESIZE
                    pieces += [(at + half, length - half), (at, half)]
            offset += size
    return replaced


@contextlib.contextmanager
def _file(folders: Sequence[str], size: int) -> Iterator[int]:
    """Make a file of this size in the first folder that is on a local disk with room."""
    mounts = Path("/proc/self/mountinfo").read_text()
    reasons = []
    for folder in folders:
        path = os.path.realpath(folder)
        kind = memory_map.file_system(mounts, path)
        if kind not in memory_map.DISKS:
            reasons.append(f"{folder} is on no local disk ({kind or 'unknown'})")
            continue
        try:
            disk = os.statvfs(path)
            if disk.f_bavail * disk.f_frsize - size < FREE_PART * disk.f_blocks * disk.f_frsize:
                reasons.append(f"the disk of {folder} would be too full")
                continue
            file = tempfile.TemporaryFile(dir=path)  # noqa: SIM115 entered below
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror}")
            continue
        with file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
                os.ftruncate(file.fileno(), size + BEYOND_BYTES)
            except OSError as error:
                reasons.append(f"{folder}: {error.strerror}")
                continue
            yield file.fileno()
            return
    raise CantSwap("; ".join(reasons))
