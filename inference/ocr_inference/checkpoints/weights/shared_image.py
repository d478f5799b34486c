"""Shared images: a model's weights as the host tier holds them, in one file that all servers of a node map.

The file is the flat buffer with its seal, and an end with the digest of its key and a checksum. So a server maps it
instead of filling memory of its own, and the node has its pages once, in the page cache. It is written from a host tier
that is full, appears whole or not at all, and is never written again: its mode and every descriptor are read-only.

Of servers that begin at the same time one makes it, by a lock that ends with its holder; the others wait.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from ocr_inference.checkpoints.weights import files, image, reading, scatter
from ocr_inference.checkpoints.weights.files import ImageNotWritten
from ocr_inference.checkpoints.weights.header import BadWeights
from ocr_inference.checkpoints.weights.image import Key
from ocr_inference.checkpoints.weights.layout import Layout
from ocr_inference.checkpoints.weights.reading import OnRange
from ocr_inference.protocol.host_tier import HostTier

SUFFIX: Final = ".flat"
FOLDER: Final = "shared"
CLAIM: Final = "claim"
"""File beside the images of one source that their maker locks. It stays: a lock whose file may go locks nothing."""
KEPT: Final = 2
"""Images of one source that a writer leaves, besides those that are mapped: its own and the one that was read last, as
a roll-out has them."""
PATIENCE_SECONDS: Final = 1200.0
"""Time after which a maker without progress isn't waited for: less than a load may take without a report while
transformers converts (`workers.limits`)."""

_END: Final = struct.Struct("<32s32s")
"""Digest of the key, and SHA-256 of the SHA-256 of each chunk of what lies before."""
_POLL_SECONDS: Final = 0.1
_PROGRESS: Final = struct.Struct("<QQ")
_THREADS: Final = 4


def path(cache_dir: Path, key: Key) -> Path:
    """`<cache_dir>/shared/<source with -->/<digest of the key>.flat`"""
    return image.path(cache_dir, key, FOLDER).with_suffix(SUFFIX)


def opened(file: Path, key: Key, layout: Layout, *, verify: bool = True) -> HostTier:
    """Open the image as a host tier that only reads; `close` it when nothing is mapped any more. While it's open, no
    writer of others evicts it.

    Checks size, seal, key and, unless a mark says that this was done, the checksum. Raises `BadWeights` for any other
    file, `FileNotFoundError` where there's none, and `OSError`.
    """
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(os.close, fd)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        nbytes = layout.total_bytes + len(layout.seal)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size != nbytes + _END.size:
            raise BadWeights(file.name, "", f"has {status.st_size} bytes, not {nbytes + _END.size}")
        seal = os.pread(fd, len(layout.seal), layout.total_bytes)
        digest, checksum = _END.unpack(os.pread(fd, _END.size, nbytes))
        if seal != layout.seal or digest != key.digest:
            raise BadWeights(file.name, "", "is of another model, or of another version of it")
        if verify:
            _verify(file, fd, nbytes, checksum)
        on_failure.pop_all()
    return HostTier(fd, read_only=True)


def write(
    file: Path, key: Key, tier: memoryview, *, on_range: OnRange | None = None, threads: int = _THREADS
) -> None:
    """Write the image from a full host tier, seal included; `on_range` is called for what is written, in the calling
    thread. Raises `ImageNotWritten`, and leaves nothing then."""
    nbytes = len(tier)
    try:
        with files.part(file) as fd:
            os.posix_fallocate(fd, 0, nbytes + _END.size)
            digests = []
            ranges = list(scatter.cut(0, nbytes, reading.CHUNK_BYTES))
            with ThreadPoolExecutor(threads, "write-shared-image") as pool:
                written = pool.map(lambda part: _write_range(fd, tier, *part), ranges)
                for (offset, size), digest in zip(ranges, written, strict=True):
                    digests.append(digest)
                    if on_range is not None:
                        on_range(offset, size)
            checksum = hashlib.sha256(b"".join(digests)).digest()
            os.pwrite(fd, _END.pack(key.digest, checksum), nbytes)
            os.fchmod(fd, 0o444)
            os.fsync(fd)
            token = files.token(fd, checksum.hex())
        files.mark_verified(file, token)  # the checksum is of the pages that are read from now on
    except (OSError, RuntimeError) as error:  # such as no further thread
        raise _not_written(file, nbytes, error) from error


class Claim:
    """Right to make the images of one source, which one server has at a time."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def report(self, done: int, total: int) -> None:
        """Tell those that wait how far the image is, in bytes."""
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, _PROGRESS.pack(done, total), 0)


@contextlib.contextmanager
def claim(
    file: Path, nbytes: int, on_wait: Callable[[int, int], None], patience: float = PATIENCE_SECONDS
) -> Iterator[Claim]:
    """Get the right to make an image of `nbytes`, waiting for the server that has it, which may have made this one;
    if not, old images make room.

    `on_wait` is called with the bytes that are done and all bytes when the other one reports. Raises `ImageNotWritten`
    where nothing can be written, or where the other one doesn't report for the time of `patience`."""
    with contextlib.ExitStack() as held:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(file.parent / CLAIM, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            held.callback(os.close, fd)
            _wait(fd, on_wait, patience)
            if not file.exists():
                files.sweep(file.parent)
                files.evict(file, KEPT)
                if shutil.disk_usage(file.parent).free < nbytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.pwrite(fd, _PROGRESS.pack(0, nbytes), 0)
        except OSError as error:
            raise _not_written(file, nbytes, error) from error
        yield Claim(fd)


# --- parts ----------------------------------------------------------------------------------------------------


def _wait(fd: int, on_wait: Callable[[int, int], None], patience: float) -> None:
    """Lock the file."""
    last, since = b"", time.monotonic()
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            return
        progress = os.pread(fd, _PROGRESS.size, 0) or b"none"
        if progress != last:
            last, since = progress, time.monotonic()
            if len(progress) == _PROGRESS.size:
                on_wait(*_PROGRESS.unpack(progress))
        elif time.monotonic() - since > patience:
            raise TimeoutError(
                None, f"another server has been making it for {patience:.0f} s without progress"
            )
        time.sleep(_POLL_SECONDS)


def _verify(file: Path, fd: int, nbytes: int, checksum: bytes) -> None:
    token = files.token(fd, checksum.hex())
    if files.is_verified(file, token):
        files.mark_read(file)
        return
    with ThreadPoolExecutor(_THREADS, "verify-shared-image") as pool:
        digests = list(pool.map(lambda part: _digest(fd, *part), scatter.cut(0, nbytes, reading.CHUNK_BYTES)))
    if hashlib.sha256(b"".join(digests)).digest() != checksum:
        raise BadWeights(file.name, "checksum", "the weights differ: the image is damaged")
    files.mark_verified(file, token)


def _digest(fd: int, offset: int, nbytes: int) -> bytes:
    return hashlib.sha256(os.pread(fd, nbytes, offset)).digest()


def _write_range(fd: int, tier: memoryview, offset: int, nbytes: int) -> bytes:
    with tier[offset : offset + nbytes] as view:
        files.write_at(fd, view, offset)
        return hashlib.sha256(view).digest()


def _not_written(file: Path, nbytes: int, error: Exception) -> ImageNotWritten:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ImageNotWritten(
        f"shared image {file} of {nbytes} bytes can't be written: {why}; {files.free(file.parent)}"
    )
