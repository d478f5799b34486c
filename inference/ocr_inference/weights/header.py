"""What a safetensors file and an index of shards claim to hold, believed only where it adds up. Pure.

Everything here is written by strangers. Every refusal is a `BadWeights` that names the file and the field.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from ocr_inference.weights.layout import Entry

MAX_HEADER_BYTES: Final = 32 << 20
MAX_INDEX_BYTES: Final = 32 << 20
MAX_TENSORS: Final = 200_000


class BadWeights(ValueError):
    """A checkpoint that can't be used: which file, which field of it, and what is wrong there."""

    def __init__(self, file: str, field: str, message: str) -> None:
        super().__init__(f"{file}: {field}: {message}" if field else f"{file}: {message}")
        self.file = file
        self.field = field


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a file; `begin` and `end` count from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    tensors: Mapping[str, TensorInfo]
    """In the order of their bytes; they cover the data part without a gap."""
    metadata: Mapping[str, str]
    data_begin: int
    """Where the data part starts in the file."""


def length(prefix: bytes, file_bytes: int, file: str) -> int:
    """How long the header is, from a file's first 8 bytes."""
    raise NotImplementedError


def parse(data: bytes, file_bytes: int, file: str) -> Header:
    """The header (without the 8 bytes before it) of a file of `file_bytes`."""
    raise NotImplementedError


def parse_index(data: bytes, file: str) -> Mapping[str, str]:
    """Tensor → name of its shard, from `model.safetensors.index.json`. Names are plain file names of one folder."""
    raise NotImplementedError


def check(
    wanted: Collection[Entry], found: Mapping[str, tuple[str, TensorInfo]], *, ignored: Collection[str] = ()
) -> None:
    """That a checkpoint (tensor → file and info) has what a model wants: every persistent entry, in its shape, and
    nothing else but names that match one of the `ignored` regular expressions. Dtypes aren't compared."""
    raise NotImplementedError
