"""Weight images: a model's weights in its own names and dtype, as one plain safetensors file beside the cache.

A checkpoint that isn't stored as its model holds it (fused experts, another dtype) is converted once, and what came
of it written here from the host tier. From then on it's read as fast as any file. Several pods may read and write
the same one: a name stands for one content, files appear whole or not at all, and the first to use one verifies its
checksum.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ocr_inference.weights.layout import Layout
from ocr_inference.weights.reading import OnRange


@dataclass(frozen=True)
class Key:
    """What the bytes of an image depend on."""

    source: str
    """A repository's name or a folder."""
    revision: str
    dtype: str
    library: str
    """`transformers 5.23.0`: another version may convert otherwise."""
    layout: bytes
    """The digest of the model's layout."""


class ImageNotWritten(Exception):
    """No image came of it (disk full, read-only); the message says what and where. The weights are unharmed."""


def path(cache_dir: Path, key: Key) -> Path:
    """`<cache_dir>/images/<source with -->/<digest of the key>.safetensors`"""
    raise NotImplementedError


def write(
    file: Path,
    layout: Layout,
    buffer: memoryview,
    metadata: Mapping[str, str] | None = None,
    *,
    threads: int = 4,
) -> None:
    """Write what `buffer` holds: all slots, computed buffers too. Raises `ImageNotWritten`, and leaves nothing then."""
    raise NotImplementedError


def read(
    file: Path, layout: Layout, buffer: memoryview, *, on_range: OnRange | None = None, threads: int = 8
) -> int:
    """Fill every slot; returns bytes read. Verifies the checksum unless somebody did since the file was written.
    Raises `BadWeights` for a damaged image (`discard` it and convert again), `FileNotFoundError` where there is none."""
    raise NotImplementedError


def discard(file: Path) -> None:
    raise NotImplementedError
