"""Weight images: a model's weights in its own names and dtype, as one plain safetensors file beside the cache.

A checkpoint that isn't stored as its model holds it (fused experts, another dtype) is converted once, and the result is
written here from the host tier. From then on it's read as fast as any file. Several pods may read and write the same
one: equal names have equal content, files appear whole or not at all, and the first reader verifies the checksum.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ocr_inference.checkpoints.weights import files, header, reading, scatter
from ocr_inference.checkpoints.weights.files import ImageNotWritten
from ocr_inference.checkpoints.weights.header import BadWeights
from ocr_inference.checkpoints.weights.layout import Layout
from ocr_inference.checkpoints.weights.reading import OnRange

CHUNK_BYTES: Final = reading.CHUNK_BYTES
"""Bytes of a chunk of the checksum, which is the SHA-256 of the SHA-256 of each chunk: chunks are verified as they
come, in parallel. Part of the format."""
CHECKSUM: Final = "ocr_operator.sha256_of_16MiB_chunks"
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

    @property
    def digest(self) -> bytes:
        """32 bytes that differ between keys."""
        words = f"{self.source}\n{self.revision}\n{self.dtype}\n{self.library}\n{self.layout.hex()}"
        return hashlib.sha256(words.encode()).digest()


def path(cache_dir: Path, key: Key, kind: str = "images") -> Path:
    """`<cache_dir>/<kind>/<source with -->/<digest of the key>.safetensors`"""
    folder = re.sub(r"[^A-Za-z0-9._-]+", "-", key.source.replace("/", "--")).strip(".")[:100] or "-"
    return cache_dir / kind / folder / f"{key.digest.hex()[:32]}.safetensors"


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
        files.sweep(file.parent)
        with files.part(file) as fd:
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
        files.evict(file, KEPT)
    except (OSError, RuntimeError) as error:  # such as no further thread
        free = files.free(file.parent)
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
    Raises `BadWeights` for a damaged image (discard it and convert again), `FileNotFoundError` where there's none."""
    inside = file.parent.resolve(strict=True)
    if not file.exists():
        raise FileNotFoundError(f"no weight image {file}")
    shard = reading.open_shard(file, inside)
    with reading.Checkpoint({shard.name: shard}, file.name) as checkpoint:
        checksum = shard.header.metadata.get(CHECKSUM)
        if checksum is None or checkpoint.tensors.keys() != layout.slots.keys():
            raise BadWeights(file.name, "", "is no weight image of this model")
        token = files.token(shard.fd, checksum)
        verified = files.is_verified(file, token)
        digests: dict[tuple[str, int], bytes] | None = None if verified else {}
        count = checkpoint.read(
            layout, buffer, on_range=on_range, chunk_bytes=CHUNK_BYTES, threads=threads, digests=digests
        )
    if digests is not None:
        if _checksum([digests[each] for each in sorted(digests)]) != checksum:
            raise BadWeights(file.name, CHECKSUM, "the weights differ: the image is damaged")
        files.mark_verified(file, token)
    else:
        files.mark_read(file)
    return count


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
            files.write_at(fd, view, piece.file_offset)
    return reading.digest(chunk.pieces, buffer)


def _checksum(digests: list[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()
