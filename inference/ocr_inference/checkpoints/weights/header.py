"""Headers of safetensors files and indexes of shards, accepted only where they are consistent.

The files are untrusted. Every refusal is a `BadWeights` that names the file and the field.
"""

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ocr_inference.checkpoints.weights.layout import ELEMENT_BYTES, Entry

PREFIX_BYTES: Final = 8
MAX_HEADER_BYTES: Final = 32 << 20
"""A tensor takes about 100 bytes of it; the safetensors library itself allows 100 MB."""
MAX_INDEX_BYTES: Final = 32 << 20
MAX_TENSORS: Final = 200_000
MAX_DIMENSIONS: Final = 16
MAX_NAME: Final = 512
"""Most characters of a name, of tensors and files."""
_QUOTED: Final = 80
"""Most characters of a file's text in a message."""


class BadWeights(ValueError):
    """Checkpoint that can't be used: the file, its field, and what is wrong there."""

    def __init__(self, file: str, field: str, message: str) -> None:
        super().__init__(f"{file}: {field}: {message}" if field else f"{file}: {message}")
        self.file = file
        self.field = field


@dataclass(frozen=True)
class TensorInfo:
    """Tensor of a file; `begin` and `end` count from the start of the file."""

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
    """Start of the data part in the file."""


def length(prefix: bytes, file_bytes: int, file: str) -> int:
    """Return the header's length, from a file's first 8 bytes."""
    if len(prefix) < PREFIX_BYTES:
        raise BadWeights(file, "", f"has {file_bytes} bytes, which is no safetensors file")
    size = int.from_bytes(prefix[:PREFIX_BYTES], "little")
    if size > MAX_HEADER_BYTES:
        raise BadWeights(file, "header length", f"{size} bytes are more than {MAX_HEADER_BYTES}")
    if size > file_bytes - PREFIX_BYTES:
        raise BadWeights(file, "header length", f"{size} bytes reach past the file's end at {file_bytes}")
    return size


def parse(data: bytes, file_bytes: int, file: str) -> Header:
    """Parse the header (without the 8 bytes before it) of a file of `file_bytes`."""
    items = _objects(data, file, "header")
    metadata = _texts(items.pop("__metadata__", {}), file, "__metadata__")
    _bounded(items, file, "header")
    begin = PREFIX_BYTES + len(data)
    tensors = [_tensor(name, item, begin, file) for name, item in items.items()]
    tensors.sort(key=lambda each: (each.begin, each.end))
    at = begin
    for tensor in tensors:
        if tensor.begin != at:
            what = "overlap the tensor before" if tensor.begin < at else "leave a gap before them"
            raise BadWeights(file, f"{_short(tensor.name)}.data_offsets", f"they {what}")
        at = tensor.end
    if at != file_bytes:
        what = "is cut off" if at > file_bytes else "has bytes that belong to no tensor"
        raise BadWeights(file, "data_offsets", f"they end at byte {at} of {file_bytes}: the file {what}")
    return Header({tensor.name: tensor for tensor in tensors}, metadata, begin)


def parse_index(data: bytes, file: str) -> Mapping[str, str]:
    """Parse `model.safetensors.index.json` into tensor → name of its shard. Names are plain file names of one
    folder."""
    if len(data) > MAX_INDEX_BYTES:
        raise BadWeights(file, "", f"is larger than {MAX_INDEX_BYTES} bytes")
    shards = _texts(_objects(data, file, "index").get("weight_map"), file, "weight_map")
    if not shards:
        raise BadWeights(file, "weight_map", "is empty")
    _bounded(shards, file, "weight_map")
    for tensor, shard in shards.items():
        if not is_plain(shard):
            field = f"weight_map.{_short(tensor)}"
            raise BadWeights(file, field, f"{_quoted(shard)} is no safetensors file of this folder")
    return shards


def is_plain(name: str) -> bool:
    """Whether a name can only mean a safetensors file of the folder that it's searched in."""
    return (
        re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors", name) is not None and len(name) <= MAX_NAME
    )


def check(
    wanted: Collection[Entry],
    found: Mapping[str, tuple[str, TensorInfo]],
    where: str,
    *,
    ignored: Collection[str] = (),
) -> None:
    """Check that a checkpoint (tensor → file and info) has what a model needs: every persistent entry, in its shape,
    and nothing else but names that match one of the `ignored` regular expressions. Dtypes aren't compared."""
    names = {entry.name for entry in wanted}
    missing = [entry.name for entry in wanted if entry.persistent and entry.name not in found]
    if missing:
        raise BadWeights(where, _short(min(missing)), f"missing{_and_more(missing)}")
    for entry in wanted:
        file, info = found.get(entry.name, (where, None))
        if info is not None and info.shape != entry.shape:
            raise BadWeights(
                file, f"{_short(entry.name)}.shape", f"{list(info.shape)}, the model has {list(entry.shape)}"
            )
    extra = [
        name
        for name in found
        if name not in names and not any(re.search(pattern, name) for pattern in ignored)
    ]
    if extra:
        name = min(extra)
        raise BadWeights(found[name][0], _short(name), f"the model has no such tensor{_and_more(extra)}")


# --- parts ----------------------------------------------------------------------------------------------------


class _Twice(ValueError):
    """JSON object with a name that comes twice: readers differ on which of them counts."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    items = dict(pairs)
    if len(items) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Twice(name)
            seen.add(name)
    return items


def _objects(data: bytes, file: str, field: str) -> dict[str, Any]:
    try:
        # Not from bytes: those may be UTF-16, too, for `json`.
        items = json.loads(data.decode(), object_pairs_hook=_unique)
    except _Twice as error:
        raise BadWeights(file, f"{field}.{_short(str(error))}", "comes twice") from None
    except (ValueError, RecursionError) as error:
        raise BadWeights(file, field, f"is not JSON: {str(error)[:_QUOTED]}") from None
    if not isinstance(items, dict):
        raise BadWeights(file, field, "is not a JSON object")
    return items


def _texts(value: Any, file: str, field: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise BadWeights(file, field, "is not an object of texts")
    for name, text in value.items():
        if not isinstance(text, str):
            raise BadWeights(file, f"{field}.{_short(name)}", "is not a text")
    return value


def _bounded(items: Collection[str], file: str, field: str) -> None:
    if len(items) > MAX_TENSORS:
        raise BadWeights(file, field, f"{len(items)} tensors are more than {MAX_TENSORS}")
    for name in items:
        if not 0 < len(name) <= MAX_NAME or not name.isprintable():
            raise BadWeights(file, field, f"{_quoted(name)} is no name for a tensor")


def _tensor(name: str, item: Any, data_begin: int, file: str) -> TensorInfo:
    where = _short(name)
    if not isinstance(item, dict) or item.keys() != {"dtype", "shape", "data_offsets"}:
        raise BadWeights(file, where, "is not described by dtype, shape and data_offsets")
    dtype, offsets = item["dtype"], _naturals(item["data_offsets"])
    if not isinstance(dtype, str) or dtype not in ELEMENT_BYTES:
        raise BadWeights(file, f"{where}.dtype", f"{_quoted(dtype)} is not one of {', '.join(ELEMENT_BYTES)}")
    if (shape := _naturals(item["shape"])) is None or len(shape) > MAX_DIMENSIONS:
        raise BadWeights(file, f"{where}.shape", f"{_quoted(item['shape'])} is no shape")
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise BadWeights(
            file, f"{where}.data_offsets", f"{_quoted(item['data_offsets'])} is no range of bytes"
        )
    nbytes = math.prod(shape) * ELEMENT_BYTES[dtype]
    if offsets[1] - offsets[0] != nbytes:
        taken = offsets[1] - offsets[0]
        message = f"they span {taken} bytes, {dtype} of shape {list(shape)} has {nbytes}"
        raise BadWeights(file, f"{where}.data_offsets", message)
    return TensorInfo(name, dtype, shape, data_begin + offsets[0], data_begin + offsets[1])


def _naturals(value: Any) -> tuple[int, ...] | None:
    """Check a list of numbers that a 64-bit file system can have."""
    if not isinstance(value, list):
        return None
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in value):
        return None
    return tuple(value)


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"


def _short(name: str) -> str:
    """Shorten a name from a file for a log line."""
    return name if len(name) <= _QUOTED and name.isprintable() else _quoted(name)


def _and_more(names: Collection[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
