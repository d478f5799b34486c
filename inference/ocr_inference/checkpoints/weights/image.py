"""Weight images: a model's weights in its own names and dtype, as one plain safetensors file beside the cache.

A checkpoint that isn't stored as its model holds it (fused experts, another dtype) is converted once, and the result is
written here from the host tier. From then on it's read as fast as any file. Several pods may read and write the same
one: equal names have equal content, files appear whole or not at all, and the first reader verifies the checksum.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ocr_inference.checkpoints.weights import header, reading, scatter
from ocr_inference.checkpoints.weights.header import BadWeights
from ocr_inference.checkpoints.weights.layout import Layout
from ocr_inference.checkpoints.weights.reading import OnRange

CHUNK_BYTES: Final = reading.CHUNK_BYTES
"""Bytes of a chunk of the checksum, which is the SHA-256 of the SHA-256 of each chunk: chunks are verified as they
come, in parallel. Part of the format."""
CHECKSUM: Final = "ocr_operator.sha256_of_16MiB_chunks"
PART: Final = ".part"
VERIFIED: Final = ".verified"
KEPT: Final = 4
"""Images of one source that a writer leaves: its own, and those that were read last. A roll-out reads two of them, the
older version's and the newer's, and more where a source is served in several dtypes."""


@dataclass(frozen=True)
class Key:
    """Everything that the bytes of an image depend on."""

    source: str
    """Name of a repository, or path of a folder."""
    revision: str
    """Commit, or whatever else changes with the checkpoint's content."""
    dtype: str
    library: str
    """`transformers 5.23.0`: another version may convert otherwise."""
    layout: bytes
    """Digest of the model's layout."""


class ImageNotWritten(Exception):
    """Image that couldn't be written (disk full, read-only); the message names the reason and the file. The weights are
    unharmed."""


def path(cache_dir: Path, key: Key) -> Path:
    """`<cache_dir>/images/<source with -->/<digest of the key>.safetensors`"""
    folder = re.sub(r"[^A-Za-z0-9._-]+", "-", key.source.replace("/", "--")).strip(".")[:100] or "-"
    words = f"{key.source}\n{key.revision}\n{key.dtype}\n{key.library}\n{key.layout.hex()}"
    return cache_dir / "images" / folder / f"{hashlib.sha256(words.encode()).hexdigest()[:32]}.safetensors"


def write(
    file: Path,
    layout: Layout,
    buffer: memoryview,
    metadata: Mapping[str, str] | None = None,
    *,
    on_range: OnRange | None = None,
    threads: int = 4,
) -> None:
    """Write what `buffer` holds: all slots, computed buffers too; `on_range` is called for what is
    written, in the calling thread. Raises `ImageNotWritten`, and leaves nothing then."""
    head = _header(layout, dict(metadata or {}) | {CHECKSUM: "0" * 64})
    plan = header.parse(head[header.PREFIX_BYTES :], len(head) + layout.weight_bytes, file.name)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _sweep(file.parent)
        with _part(file) as fd:
            os.posix_fallocate(fd, 0, plan.data_begin + layout.weight_bytes)
            chunks = list(scatter.chunks(plan, layout, CHUNK_BYTES))
            with ThreadPoolExecutor(threads, "write-image") as pool:
                digests = []
                written = pool.map(lambda chunk: _write_chunk(fd, chunk, buffer), chunks)
                for chunk, digest in zip(chunks, written, strict=True):
                    digests.append(digest)
                    if on_range is not None:
                        for offset, nbytes in chunk.runs():
                            on_range(offset, nbytes)
            checksum = _checksum(digests)
            os.pwrite(fd, _header(layout, dict(metadata or {}) | {CHECKSUM: checksum}), 0)
            os.fsync(fd)
        _evict(file)
    except (OSError, RuntimeError) as error:  # such as no further thread
        free = _free_bytes(file.parent)
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        message = f"weight image {file} of {layout.weight_bytes} bytes can't be written: {why}; {free}"
        raise ImageNotWritten(message) from error


def read(
    file: Path,
    layout: Layout,
    buffer: memoryview,
    *,
    on_range: OnRange | None = None,
    threads: int = reading.THREADS,
) -> int:
    """Fill every slot; returns bytes read. Verifies the checksum unless that was done since the file was written.
    Raises `BadWeights` for a damaged image (`discard` it and convert again), `FileNotFoundError` where there's none."""
    inside = file.parent.resolve(strict=True)
    if not file.exists():
        raise FileNotFoundError(f"no weight image {file}")
    shard = reading.open_shard(file, inside)
    with reading.Checkpoint({shard.name: shard}, file.name) as checkpoint:
        checksum = shard.header.metadata.get(CHECKSUM)
        if checksum is None or checkpoint.tensors.keys() != layout.slots.keys():
            raise BadWeights(file.name, "", "is no weight image of this model")
        token = _token(shard.fd, checksum)
        verified = _is_verified(file, token)
        digests: dict[tuple[str, int], bytes] | None = None if verified else {}
        count = checkpoint.read(
            layout, buffer, on_range=on_range, chunk_bytes=CHUNK_BYTES, threads=threads, digests=digests
        )
    if digests is not None:
        if _checksum([digests[each] for each in sorted(digests)]) != checksum:
            raise BadWeights(file.name, CHECKSUM, "the weights differ: the image is damaged")
        _mark_verified(file, token)
    else:
        with contextlib.suppress(OSError):
            os.utime(file.with_suffix(VERIFIED))  # when it was read last, for `_evict`
    return count


def discard(file: Path) -> None:
    """Remove an image that is damaged, where the folder can be written; a reader that has it open isn't disturbed."""
    for each in (file, file.with_suffix(VERIFIED)):
        with contextlib.suppress(OSError):
            each.unlink(missing_ok=True)


# --- the format -----------------------------------------------------------------------------------------------


def _header(layout: Layout, metadata: Mapping[str, str]) -> bytes:
    """Make prefix and header of a file with all slots, one after another."""
    items: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    at = 0
    for name, slot in layout.slots.items():
        end = at + slot.entry.nbytes
        items[name] = {
            "dtype": slot.entry.dtype,
            "shape": list(slot.entry.shape),
            "data_offsets": [at, end],
        }
        at = end
    data = json.dumps(items, separators=(",", ":"), ensure_ascii=False).encode()
    data += b" " * (-len(data) % 8)  # the data part begins at a multiple of 8, as the format wants it
    return len(data).to_bytes(header.PREFIX_BYTES, "little") + data


def _write_chunk(fd: int, chunk: scatter.Chunk, buffer: memoryview) -> bytes:
    for piece in chunk.pieces:
        with buffer[piece.buffer_offset : piece.buffer_offset + piece.nbytes] as view:
            at = 0
            while at < piece.nbytes:
                with view[at:] as rest:
                    at += os.pwrite(fd, rest, piece.file_offset + at)
    return reading.digest(chunk.pieces, buffer)


def _checksum(digests: list[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()


# --- files ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _part(file: Path) -> Iterator[int]:
    """Open a file that takes the name of `file` when the block ends well, and disappears when it doesn't. It's locked,
    which distinguishes it from one whose writer died."""
    part, fd = _locked(file)
    try:
        yield fd
        part.rename(file)
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def _locked(file: Path) -> tuple[Path, int]:
    """Create a new file beside `file`, that no sweep removes."""
    while True:
        part = file.with_name(f"{file.stem}.{secrets.token_hex(8)}{PART}")
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return part, fd
        except BaseException:
            part.unlink(missing_ok=True)
            os.close(fd)
            raise
        os.close(fd)  # swept between being made and being locked


def _sweep(folder: Path) -> None:
    """Remove files of killed writers: they aren't locked."""
    for part in folder.glob(f"*{PART}"):
        with contextlib.suppress(OSError):
            fd = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
            finally:
                os.close(fd)


def _evict(written: Path) -> None:
    """Remove the images of this source that nothing has read for longest, beyond those that are kept. A reader that has
    one open isn't disturbed; one that comes later converts again."""

    def last_read(file: Path) -> int:
        with contextlib.suppress(OSError):
            return file.with_suffix(VERIFIED).stat().st_mtime_ns
        with contextlib.suppress(OSError):
            return file.stat().st_mtime_ns
        return 0

    others: list[Path] = []
    with contextlib.suppress(OSError):
        others += [each for each in written.parent.glob(f"*{written.suffix}") if each != written]
    for file in sorted(others, key=last_read, reverse=True)[KEPT - 1 :]:
        discard(file)


def _token(fd: int, checksum: str) -> str:
    """Return a mark of a file as it is: a copy, or one written again, has another."""
    status = os.fstat(fd)
    return f"{checksum} {status.st_size} {status.st_mtime_ns}"


def _is_verified(file: Path, token: str) -> bool:
    try:
        return file.with_suffix(VERIFIED).read_text()[:1000] == token
    except (OSError, ValueError):
        return False


def _mark_verified(file: Path, token: str) -> None:
    """Note that the image is verified; in a read-only folder each reader verifies for itself."""
    with contextlib.suppress(OSError):
        part = file.with_name(f"{file.stem}.{secrets.token_hex(8)}{VERIFIED}{PART}")
        part.write_text(token)
        part.replace(file.with_suffix(VERIFIED))


def _free_bytes(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free} bytes are free in {folder}"
    except OSError:
        return f"folder {folder} can't be looked at"
