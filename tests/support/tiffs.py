"""TIFFs of one row that Pillow reads and doesn't write: any number of bits, either byte order, zero as white."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

SHORT, LONG = 3, 4
_FORMATS: Final = {SHORT: "H", LONG: "I"}
Tags = Mapping[int, tuple[int, Sequence[int]]]


@dataclass(frozen=True)
class Row:
    """Row of grey samples, as `struct` packs each."""

    format: Literal["B", "H", "h", "i", "f"]
    samples: Sequence[float]
    white_is_zero: bool = False
    order: Literal["<", ">"] = "<"


def tiff(row: Row) -> bytes:
    size = struct.calcsize(row.format)
    pixels = struct.pack(row.order + row.format * len(row.samples), *row.samples)
    tags: dict[int, tuple[int, Sequence[int]]] = {
        256: (LONG, [len(row.samples)]),
        257: (LONG, [1]),
        258: (SHORT, [size * 8]),
        259: (SHORT, [1]),
        262: (SHORT, [0 if row.white_is_zero else 1]),
        273: (LONG, [0]),
        277: (SHORT, [1]),
        278: (LONG, [1]),
        279: (LONG, [len(pixels)]),
        339: (SHORT, [{"h": 2, "i": 2, "f": 3}.get(row.format, 1)]),
    }
    head = _written(tags, row.order)
    tags[273] = (LONG, [len(head)])
    return _written(tags, row.order) + pixels


def _written(tags: Tags, order: str) -> bytes:
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    for tag, (kind, values) in sorted(tags.items()):
        content = struct.pack(order + _FORMATS[kind] * len(values), *values)
        out += struct.pack(f"{order}HHI", tag, kind, len(values)) + content.ljust(4, b"\0")
    return out + bytes(4)
