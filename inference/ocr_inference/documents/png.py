"""Rendered pages as PNG, for clients that show or keep them: bitmaps (BMP) of 24 bits a pixel, packed strip by strip.

Rendering makes bitmaps since workers read them as they are (`bitmap`). No library that opens pictures of all kinds is
needed to pack them.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_HEAD: Final = struct.Struct("<2sIHHIIiiHHI")
_LEVEL: Final = 4
"""Of compression: printed pages hardly get smaller above, and take twice as long."""
_STRIP_BYTES: Final = 1 << 18


class NoBitmap(Exception):
    """File that isn't a bitmap of 24 bits a pixel."""


def packed(file: BinaryIO) -> bytes:
    """Return a bitmap as PNG; raises `NoBitmap`."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise NoBitmap("it ends in its header")
    mark, _, _, _, start, _, width, height, _, bits, compression = _HEAD.unpack(head)
    if (mark, bits, compression) != (b"BM", 24, 0) or width <= 0 or height == 0:
        raise NoBitmap("its pixels aren't 24 bits each, or it has none")
    packer = zlib.compressobj(_LEVEL)
    data = [packer.compress(strip) for strip in _strips(file, start, width, height)]
    data.append(packer.flush())
    header = struct.pack(">IIBBBBB", width, abs(height), 8, 2, 0, 0, 0)
    chunks = (
        _chunk(b"IHDR", header),
        *(_chunk(b"IDAT", each) for each in data if each),
        _chunk(b"IEND", b""),
    )
    return _SIGNATURE + b"".join(chunks)


def _strips(file: BinaryIO, start: int, width: int, height: int) -> Iterator[bytes]:
    """Yield rows from the top, a few at a time, each after the byte that says that it isn't filtered."""
    row = (width * 3 + 3) // 4 * 4
    rows = max(1, _STRIP_BYTES // row)
    for first in range(0, abs(height), rows):
        count = min(rows, abs(height) - first)
        # With a positive height, the last row of the page is the first one of the file.
        at = first if height < 0 else height - first - count
        file.seek(start + at * row)
        data = file.read(count * row)
        if len(data) < count * row:
            raise NoBitmap("it ends in its pixels")
        found = (_row(data[each * row : each * row + width * 3]) for each in range(count))
        yield b"".join(found if height < 0 else reversed(tuple(found)))


def _row(pixels: bytes) -> bytes:
    """Return blue, green, red as red, green, blue, after the filter's byte."""
    row = bytearray(1 + len(pixels))
    row[1::3], row[2::3], row[3::3] = pixels[2::3], pixels[1::3], pixels[0::3]
    return bytes(row)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
