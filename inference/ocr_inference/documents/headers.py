"""Format and size of a picture, by its header, with bounded work.

Pillow knows both, too, but reads all metadata on the way, in Python: a file of 48 MiB keeps it busy for 13 s, and a
quarter of a second each MiB is what chunks without content, padding or a resolution with a million values cost. So the
server reads headers by this module only, and a worker does so before it lets Pillow open a page: what passes here has
no more metadata than the bounds below.
"""

import mmap
import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

Data = bytes | mmap.mmap

MAX_PARTS: Final = 65_536
"""Chunks, blocks or segments around a picture's pixels; a PNG of 48 MiB in pieces of 8 KiB has 6,000."""
MAX_PADDING: Final = 65_536
"""Bytes between a JPEG's segments, which readers skip one by one."""
MAX_EXIF: Final = 1 << 20
"""Bytes of EXIF data. The standard allows 64 KiB; cameras that need more repeat the segment."""
MAX_NUMBERS: Final = 1 << 20
"""Numbers in a TIFF's tags: 100 million pixels in tiles of 16 x 16 need 800,000."""
MAX_FRACTIONS: Final = 4096
"""Fractions among them; a resolution is one, and each costs a reader as much as a hundred other numbers."""
STEP_BYTES: Final = 1 << 18
"""Bytes that are searched at a time."""
MAX_SCANS: Final = 100
"""Passes over a JPEG's pixels, each as long as the whole picture; libjpeg writes 10."""

BITS: Final = 8
"""Bits of a JPEG's colours; cameras of medicine and science write 12."""

_JPEG_MARKER: Final = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_ALONE: Final = frozenset((0x01, *range(0xD0, 0xD9), *range(0xF0, 0xFE)))
"""JPEG markers that nothing follows, as Pillow reads them."""
_SIZES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers that are followed by the picture's size."""
_EOI, _SOS, _APP1 = 0xD9, 0xDA, 0xE1
_FIXED: Final = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
"""Bytes of a value of each TIFF type."""


class BadHeader(ValueError):
    """Header that is damaged or has more in it than is read; the message completes "the picture's header …"."""


class TooManyParts(BadHeader):
    """Header with more parts than are read."""


@dataclass(frozen=True)
class Picture:
    format: str
    width: int
    height: int
    frames: tuple[int, ...] = (0,)
    """Which of the file's frames are pages, where they were counted (`counting`)."""


def of_file(file: BinaryIO, most_parts: int = MAX_PARTS) -> Picture | None:
    """Return format and size of a file of the system's; as `read`."""
    if not os.fstat(file.fileno()).st_size:
        return None
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return read(data, most_parts)


def read(data: Data, most_parts: int = MAX_PARTS) -> Picture | None:
    """Return format and size; None where it is no picture of our formats. Raises `BadHeader`, and `TooManyParts` for a
    picture with more parts than `most_parts`."""
    for begins, reader in _READERS:
        if data[: len(begins)] == begins:
            try:
                return reader(data, most_parts)
            except (struct.error, IndexError):
                raise BadHeader("ends too early") from None
    return None


def _steps(limit: int, what: str) -> Iterator[None]:
    """Yield `limit` times, then raise `TooManyParts`."""
    for _ in range(limit):
        yield
    raise TooManyParts(f"has more than {limit} {what}")


def _png(data: Data, most_parts: int) -> Picture:
    if data[12:16] != b"IHDR":
        raise BadHeader("doesn't begin with IHDR")
    width, height = struct.unpack_from(">II", data, 16)
    at = 8
    for _ in _steps(most_parts, "chunks"):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf" and length > MAX_EXIF:
            raise BadHeader(f"has more than {MAX_EXIF} bytes of EXIF data")
        if kind == b"IEND":
            break  # no reader looks at what is appended
        at += 12 + length
    return Picture("PNG", width, height)


def _jpeg(data: Data, most_parts: int) -> Picture:
    size: tuple[int, int] | None = None
    exif = scans = 0
    for marker, at, length in _segments(data, most_parts):
        if marker in _SIZES and size is None:
            if data[at + 2] != BITS:
                raise BadHeader(
                    f"says {data[at + 2]} bits a colour, and {BITS} are read: save it as a usual JPEG"
                )
            height, width = struct.unpack_from(">HH", data, at + 3)
            size = width, height
        exif += length if marker == _APP1 and data[at + 2 : at + 8] == b"Exif\0\0" else 0
        scans += marker == _SOS
        if exif > MAX_EXIF:
            raise BadHeader(f"has more than {MAX_EXIF} bytes of EXIF data")
        if scans > MAX_SCANS:
            raise BadHeader(f"announces more than {MAX_SCANS} passes over the pixels")
    if size is None:
        raise BadHeader("names no size")
    return Picture("JPEG", *size)


def scans(data: Data) -> int:
    """Return how many passes over its pixels a JPEG has begun; raises `BadHeader`."""
    return sum(marker == _SOS for marker, _, _ in _segments(data, MAX_PARTS))


def _segments(data: Data, most_parts: int) -> Iterator[tuple[int, int, int]]:
    """Yield marker, place and length of a JPEG's segments, up to the end of the picture: thumbnails, videos and further
    pictures may come behind it."""
    at, padding, scans = 2, 0, False
    for _ in _steps(most_parts, "segments"):
        found = _search(data, at)
        if found is None:
            return
        padding += 0 if scans else found.start() - at
        if padding > MAX_PADDING:
            raise BadHeader(f"has more than {MAX_PADDING} bytes between its segments")
        marker, at = found[1][0], found.end()
        if marker == _EOI and scans:
            return
        if marker in _ALONE or marker == _EOI:
            continue
        if at + 2 > len(data):
            return
        (length,) = struct.unpack_from(">H", data, at)
        scans = scans or marker == _SOS
        yield marker, at, length
        at += max(2, length)


def _search(data: Data, at: int) -> re.Match[bytes] | None:
    """Find the next marker, in steps: in one, other threads would stand still for a whole scan of 45 MiB."""
    while at + 1 < len(data):
        if (found := _JPEG_MARKER.search(data, at, at + STEP_BYTES)) is not None:
            return found
        at += STEP_BYTES - 1  # a marker may lie across
    return None


def _gif(data: Data, most_parts: int) -> Picture:
    """Read up to the first frame."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    steps = _steps(most_parts, "blocks")
    while at < len(data) and data[at] != 0x2C:
        next(steps)
        if data[at] != 0x21:
            at += 1
            continue
        at += 2
        while at < len(data) and data[at]:
            next(steps)
            at += 1 + data[at]
        at += 1
    return Picture("GIF", width, height)


def _bmp(data: Data, _: int) -> Picture:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return Picture("BMP", abs(width), abs(height))


def _webp(data: Data, _: int) -> Picture | None:
    """Read the canvas (RFC 9649), all of which is allocated when Pillow opens the picture."""
    if data[8:12] != b"WEBP":
        return None
    match data[12:16]:
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return Picture("WEBP", width & 0x3FFF, height & 0x3FFF)
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return Picture("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        case b"VP8X" if len(data) >= 30:
            width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
            return Picture("WEBP", width, height)
    raise BadHeader("names no size")


def _tiff(data: Data, most_parts: int) -> Picture:
    """Read the first directory."""
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:3] == b"+" or data[3:4] == b"+"
    (at,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, 8 if big else 4)
    (entries,) = struct.unpack_from(f"{order}Q" if big else f"{order}H", data, at)
    entry = struct.Struct(f"{order}HHQ8s" if big else f"{order}HHI4s")
    at += 8 if big else 2
    if entries > most_parts:
        raise TooManyParts(f"has more than {most_parts} tags")
    sizes: dict[int, int] = {}
    numbers = fractions = 0
    for index in range(entries):
        tag, kind, count, value = entry.unpack_from(data, at + index * entry.size)
        # Text and bytes stay as they are; a number becomes an object each.
        numbers += count if kind not in (1, 2, 6, 7) else 0
        fractions += count if kind in (5, 10) else 0
        if tag in (256, 257) and count == 1 and (width := _FIXED.get(kind, 8)) <= len(value):
            sizes.setdefault(tag, int.from_bytes(value[:width], "little" if order == "<" else "big"))
    if numbers > MAX_NUMBERS or fractions > MAX_FRACTIONS:
        raise BadHeader(f"has more than {MAX_NUMBERS} numbers, or {MAX_FRACTIONS} fractions, in its tags")
    if len(sizes) < 2:
        raise BadHeader("names no size")
    return Picture("TIFF", sizes[256], sizes[257])


_READERS: Final[tuple[tuple[bytes, Callable[[Data, int], Picture | None]], ...]] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8\xff", _jpeg),
    (b"RIFF", _webp),
    *((begins, _tiff) for begins in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (b"BM", _bmp),
    *((begins, _gif) for begins in (b"GIF87a", b"GIF89a")),
)
"""What a file of each format begins with."""
BEGINNINGS: Final = tuple(begins for begins, _ in _READERS)
