"""Reads checkpoints: parallel `preadv` from shards straight into the slots of a flat buffer.

Nothing is mapped and nothing is copied on the way: the kernel scatters a range of a file over its slots, without the
GIL. The calling thread gets each range that is complete, so it can send it on to a device while others are read.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ocr_inference.checkpoints.weights import header, scatter
from ocr_inference.checkpoints.weights.header import BadWeights, Header, TensorInfo
from ocr_inference.checkpoints.weights.layout import Entry, Layout

INDEX: Final = "model.safetensors.index.json"
SINGLE: Final = "model.safetensors"
CHUNK_BYTES: Final = 16 << 20
"""Large enough that a system call costs nothing, small enough that a device begins early and threads end together."""
THREADS: Final = 8
"""A page cache is copied as fast by one thread per core; disks want more requests in flight."""
MAX_SHARDS: Final = 4096

_MAX_VECTORS: Final = 1024
"""`IOV_MAX` of Linux."""

OnRange = Callable[[int, int], None]
"""`(offset, nbytes)`: these bytes of the flat buffer are complete. Called by the thread that reads, in any order."""


@dataclass(frozen=True)
class Shard:
    """Open file and its header."""

    name: str
    fd: int
    header: Header

    def read(self, chunk: scatter.Chunk, buffer: memoryview) -> None:
        """Read one chunk into its slots; blocks without the GIL."""
        for first in range(0, len(chunk.pieces), _MAX_VECTORS):
            pieces = chunk.pieces[first : first + _MAX_VECTORS]
            offset = pieces[0].file_offset
            with views(pieces, buffer) as left:
                while left:
                    count = os.preadv(self.fd, left, offset)
                    if count == 0:
                        raise BadWeights(self.name, "", f"ends at byte {offset} while it is read")
                    offset += count
                    _drop(left, count)


class Checkpoint:
    """Open shards of a folder, with their headers checked. A context manager."""

    def __init__(self, shards: Mapping[str, Shard], where: str) -> None:
        self._shards = shards
        self._where = where
        self.tensors: Mapping[str, tuple[str, TensorInfo]] = {
            tensor.name: (shard.name, tensor)
            for shard in shards.values()
            for tensor in shard.header.tensors.values()
        }
        """Every tensor with its file's name."""

    @classmethod
    def open(cls, folder: Path, *, within: Path | None = None) -> Self:
        """Open `model.safetensors`, or the shards that its index names. Files that are links may point anywhere inside
        `within` (default: the folder itself). Raises `BadWeights`, and `OSError` for a folder that doesn't exist."""
        inside = (within or folder).resolve(strict=True)
        if not (folder / INDEX).exists():
            return cls({SINGLE: open_shard(folder / SINGLE, inside)}, SINGLE)
        fd = _open(folder / INDEX, inside)
        try:
            index = header.parse_index(_head(fd, header.MAX_INDEX_BYTES + 1), INDEX)
        finally:
            os.close(fd)
        names = sorted(set(index.values()))
        if len(names) > MAX_SHARDS:
            raise BadWeights(INDEX, "weight_map", f"{len(names)} files are more than {MAX_SHARDS}")
        with contextlib.ExitStack() as opened:
            shards = {}
            for name in names:
                shards[name] = shard = open_shard(folder / name, inside)
                opened.callback(os.close, shard.fd)
            _agree(index, shards)
            opened.pop_all()
        return cls(shards, INDEX)

    @property
    def weight_bytes(self) -> int:
        return sum(tensor.end - tensor.begin for _, tensor in self.tensors.values())

    def fits(self, entries: Collection[Entry]) -> bool:
        """Whether `read` can fill these entries as they are: same names, shapes and dtypes. If not: convert."""
        persistent = {entry.name: (entry.dtype, entry.shape) for entry in entries if entry.persistent}
        stored = {name: (info.dtype, info.shape) for name, (_, info) in self.tensors.items()}
        return persistent.items() <= stored.items()

    def check(self, entries: Collection[Entry], *, ignored: Collection[str] = ()) -> None:
        """Run `header.check` over all shards together: nothing missing, misshapen or left over. Raises `BadWeights`."""
        header.check(entries, self.tensors, self._where, ignored=ignored)

    def read(
        self,
        layout: Layout,
        buffer: memoryview,
        *,
        on_range: OnRange | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        threads: int = THREADS,
        digests: dict[tuple[str, int], bytes] | None = None,
    ) -> int:
        """Fill every slot that the files have a tensor for, which must be all persistent ones; returns bytes read.
        Raises `BadWeights`, also for a file that ends early. `digests` receives each chunk's, by file and number."""
        for slot in layout.slots.values():
            file, info = self.tensors.get(slot.entry.name, (self._where, None))
            if info is None and slot.entry.persistent:
                raise BadWeights(file, slot.entry.name, "missing")
            if info is not None and (info.dtype, info.shape) != (slot.entry.dtype, slot.entry.shape):
                stored, wanted = f"{info.dtype} {info.shape}", f"{slot.entry.dtype} {slot.entry.shape}"
                raise BadWeights(file, slot.entry.name, f"is {stored}, the model has {wanted}")
        work = [
            (shard, chunk)
            for shard in self._shards.values()
            for chunk in scatter.chunks(shard.header, layout, chunk_bytes)
        ]

        def read(shard: Shard, chunk: scatter.Chunk) -> None:
            shard.read(chunk, buffer)
            if digests is not None:
                digests[shard.name, chunk.number] = digest(chunk.pieces, buffer)

        with ThreadPoolExecutor(max(1, min(threads, len(work))), "read-weights") as pool:
            jobs = {pool.submit(read, shard, chunk): chunk for shard, chunk in work}
            try:
                for job in as_completed(jobs):
                    job.result()
                    if on_range is not None:
                        for offset, nbytes in jobs[job].runs():
                            on_range(offset, nbytes)
            finally:
                pool.shutdown(cancel_futures=True)
        return sum(chunk.nbytes for chunk in jobs.values())

    def close(self) -> None:
        for shard in self._shards.values():
            os.close(shard.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_shard(path: Path, inside: Path) -> Shard:
    """Open a file and check its header; the caller closes `fd`. `inside` is a real path."""
    with contextlib.ExitStack() as opened:
        fd = _open(path, inside)
        opened.callback(os.close, fd)
        file_bytes = os.fstat(fd).st_size
        size = header.length(_head(fd, header.PREFIX_BYTES), file_bytes, path.name)
        data = _head(fd, header.PREFIX_BYTES + size)[header.PREFIX_BYTES :]
        if len(data) < size:
            raise BadWeights(path.name, "header", "ends early")
        shard = Shard(path.name, fd, header.parse(data, file_bytes, path.name))
        opened.pop_all()
    return shard


def digest(pieces: Sequence[scatter.Piece], buffer: memoryview) -> bytes:
    """Hash what lies in these places, one after another."""
    total = hashlib.sha256()
    with views(pieces, buffer) as parts:
        for part in parts:
            total.update(part)
    return total.digest()


@contextlib.contextmanager
def views(pieces: Sequence[scatter.Piece], buffer: memoryview) -> Iterator[list[memoryview]]:
    """Views of pieces, released at the end: a view that lived on, such as in the traceback of a failure, would keep the
    buffer from being unmapped."""
    made = [buffer[piece.buffer_offset : piece.buffer_offset + piece.nbytes] for piece in pieces]
    left = list(made)
    try:
        yield left
    finally:
        for view in (*made, *left):
            view.release()


def _drop(views: list[memoryview], count: int) -> None:
    """Leave out the first `count` bytes."""
    while views and count >= len(views[0]):
        count -= len(views.pop(0))
    if count:
        views[0] = views[0][count:]


def _open(path: Path, inside: Path) -> int:
    try:
        # A pipe would block without O_NONBLOCK, which means nothing to a file.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BadWeights(path.name, "", f"can't be opened: {error.strerror}") from error
    with contextlib.ExitStack() as opened:
        opened.callback(os.close, fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BadWeights(path.name, "", "is not a file")
        # Of the open file, so that the link can't be changed in between.
        if not Path(os.readlink(f"/proc/self/fd/{fd}")).is_relative_to(inside):
            raise BadWeights(path.name, "", f"is a link that leads out of {inside}")
        opened.pop_all()
    return fd


def _head(fd: int, size: int) -> bytes:
    """Return the first `size` bytes of a file, fewer where it ends before."""
    data = bytearray()
    while len(data) < size and (more := os.pread(fd, size - len(data), len(data))):
        data += more
    return bytes(data)


def _agree(index: Mapping[str, str], shards: Mapping[str, Shard]) -> None:
    """Check that each tensor is in the file that the index names, and nowhere else."""
    owners: dict[str, str] = {}
    for shard in shards.values():
        for tensor in shard.header.tensors:
            if tensor in owners:
                raise BadWeights(shard.name, tensor, f"is in {owners[tensor]}, too")
            owners[tensor] = shard.name
    for tensor, name in index.items():
        if owners.get(tensor) != name:
            raise BadWeights(INDEX, f"weight_map.{tensor}", f"{name} has no such tensor")
