"""Reading checkpoints: parallel `preadv` from shards straight into the slots of a flat buffer.

Nothing is mapped and nothing is copied on the way: a range of a file is scattered over the slots it belongs to by
the kernel, without the GIL. The calling thread hears of each range that is complete, so it can send it on to a
device while the others are read.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ocr_inference.weights.header import TensorInfo
from ocr_inference.weights.layout import Entry, Layout

INDEX: Final = "model.safetensors.index.json"
SINGLE: Final = "model.safetensors"
CHUNK_BYTES: Final = 16 << 20
THREADS: Final = 8

OnRange = Callable[[int, int], None]
"""`(offset, nbytes)`: these bytes of the flat buffer are complete. Called by the thread that reads, in any order."""


class Checkpoint:
    """The open shards of a folder, with their headers checked. A context manager; raises `BadWeights`."""

    tensors: Mapping[str, tuple[str, TensorInfo]]
    """Every tensor with its file's name."""

    @classmethod
    def open(cls, folder: Path, *, within: Path | None = None) -> Self:
        """Files that are links may point anywhere inside `within` (default: the folder itself), never out of it."""
        raise NotImplementedError

    def fits(self, entries: Collection[Entry]) -> bool:
        """Whether `read` can fill these entries as they are: same names, shapes and dtypes. If not: convert."""
        raise NotImplementedError

    def check(self, entries: Collection[Entry], *, ignored: Collection[str] = ()) -> None:
        raise NotImplementedError

    def read(
        self,
        layout: Layout,
        buffer: memoryview,
        *,
        on_range: OnRange | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        threads: int = THREADS,
    ) -> int:
        """Fill the persistent slots; returns bytes read. Raises `BadWeights` for a file that ends early."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
