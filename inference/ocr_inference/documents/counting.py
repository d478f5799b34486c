"""Which frames of a picture are pages, by the file's structure, with bounded work and without a decoder.

Scanners and fax machines write all pages of a document into one TIFF. Its directories may also be thumbnails, smaller
copies or masks of a page, which the format tells apart (TIFF 6.0, tag NewSubfileType).
"""

import mmap
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from ocr_inference.documents.headers import Data

MAX_FRAMES: Final = 10_000
"""Most frames that are counted."""
MAX_STEPS: Final = 1 << 20
"""Blocks and chunks around them: a GIF of 48 MiB has 200,000."""
_BIG_ENTRY_BYTES: Final = 20
_REDUCED, _MASK = 1, 4
"""Bits of NewSubfileType."""


def of_file(file: BinaryIO, picture_format: str) -> tuple[int, ...]:
    """Return the pages of a picture in a file of the system's; as `frames`."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return frames(data, picture_format)


def frames(data: Data, picture_format: str) -> tuple[int, ...]:
    """Return which frames are pages, counted from 0 as Pillow does; at least one."""
    reader = _READERS.get(picture_format)
    if reader is None:
        return (0,)
    found: list[int] = []
    try:
        for frame in reader(data):
            found.append(frame)
            if len(found) == MAX_FRAMES:
                break
    except (struct.error, IndexError):
        pass  # the file ends too early
    return tuple(found) or (0,)


def _tiff(data: Data) -> Iterator[int]:
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:3] == b"+" or data[3:4] == b"+"
    pointer, counter = (f"{order}Q", f"{order}Q") if big else (f"{order}I", f"{order}H")
    entry_bytes = _BIG_ENTRY_BYTES if big else 12
    (at,) = struct.unpack_from(pointer, data, 8 if big else 4)
    seen: set[int] = set()
    while at and at not in seen and len(seen) < MAX_FRAMES:
        seen.add(at)
        (entries,) = struct.unpack_from(counter, data, at)
        first = at + struct.calcsize(counter)
        if not _is_copy(data, order, first, min(entries, 4), entry_bytes):
            yield len(seen) - 1
        (at,) = struct.unpack_from(pointer, data, first + entries * entry_bytes)


def _is_copy(data: Data, order: str, first: int, entries: int, entry_bytes: int) -> bool:
    """Whether a directory is a smaller copy or a mask of another one, by its first entries: they are in order."""
    for at in range(first, first + entries * entry_bytes, entry_bytes):
        tag, kind = struct.unpack_from(f"{order}HH", data, at)
        if tag == 254 and kind in (3, 4):
            (value,) = struct.unpack_from(
                f"{order}{'H' if kind == 3 else 'I'}",
                data,
                at + entry_bytes - (8 if entry_bytes == 20 else 4),
            )
            return bool(value & (_REDUCED | _MASK))
    return False


def _gif(data: Data) -> Iterator[int]:
    (flags,) = struct.unpack_from("<B", data, 10)
    at, count, steps = 13 + _palette(flags), 0, 0
    while steps < MAX_STEPS:
        steps += 1
        match data[at]:
            case 0x21:
                at += 2
            case 0x2C:
                yield count
                count += 1
                at += 10 + _palette(data[at + 9]) + 1
            case 0x3B:
                return
            case _:
                at += 1
                continue
        while data[at] and steps < MAX_STEPS:
            steps += 1
            at += 1 + data[at]
        at += 1


def _palette(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _webp(data: Data) -> Iterator[int]:
    at, count = 12, 0
    for _ in range(MAX_STEPS):
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"ANMF":
            yield count
            count += 1
        at += 8 + length + length % 2


def _png(data: Data) -> Iterator[int]:
    """Yield the frames of an animation, which is announced before the pixels; these are a frame of their own, for
    readers without animations, unless a frame's control comes before them."""
    at, count, more = 8, 0, 1
    for _ in range(MAX_STEPS):
        length, kind = struct.unpack_from(">I4s", data, at)
        match kind:
            case b"acTL":
                (count,) = struct.unpack_from(">I", data, at + 8)
            case b"fcTL":
                more = 0
            case b"IDAT" | b"IEND":
                break
        at += 12 + length
    if count:
        yield from range(min(count + more, MAX_FRAMES))


_READERS: Final[dict[str, Callable[[Data], Iterator[int]]]] = {
    "TIFF": _tiff,
    "GIF": _gif,
    "WEBP": _webp,
    "PNG": _png,
}
