"""Pictures that are almost in order: small ones of every format, damaged in the ways that decoders trip over.

`mutated(seed, number)` is the same bytes each time, so that a number is all that has to be written down of a finding.
"""

import io
import random
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, Literal

from PIL import Image

from ocr_inference.protocol.page import FORMATS

_VARIANTS: Final[Mapping[str, tuple[tuple[str, Mapping[str, Any]], ...]]] = {
    "PNG": (
        ("RGB", {}),
        ("RGBA", {"optimize": True}),
        ("P", {"transparency": 3}),
        ("1", {}),
        ("I;16", {}),
        ("LA", {"icc_profile": b"x" * 200, "exif": None}),
    ),
    "JPEG": (
        ("RGB", {"exif": None}),
        ("L", {"progressive": True}),
        ("CMYK", {"quality": 30, "restart_marker_blocks": 2}),
        ("RGB", {"progressive": True, "subsampling": 2, "icc_profile": b"y" * 200, "comment": b"c"}),
    ),
    "WEBP": (
        ("RGB", {"quality": 50}),
        ("RGBA", {"lossless": True}),
        ("RGBA", {"quality": 80, "exif": None}),
        ("RGB", {"save_all": True, "append_images": 2}),
    ),
    "TIFF": (
        ("RGB", {}),
        ("L", {"compression": "tiff_lzw"}),
        ("RGB", {"compression": "jpeg"}),
        ("1", {"compression": "group4"}),
        ("I;16", {"compression": "tiff_adobe_deflate"}),
        ("RGB", {"compression": "packbits", "save_all": True, "append_images": 1}),
        ("RGB", {"compression": "tiff_adobe_deflate", "big_tiff": True}),
        ("CMYK", {"compression": "raw"}),
    ),
    "BMP": (("RGB", {}), ("P", {}), ("1", {})),
    "GIF": (
        ("P", {}),
        ("L", {"interlace": 1, "comment": b"hello"}),
        ("P", {"transparency": 1, "save_all": True, "append_images": 2}),
    ),
}
"""Mode and options of each picture to begin with; `exif` and `append_images` are filled in when it is made."""

_NUMBERS: Final = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)
"""Values at which sizes and counts are miscalculated."""
_MARKERS: Final = (
    b"\xff\xda",
    b"\xff\xc0",
    b"\xff\xc4",
    b"\xff\xd9",
    b"\x00\x00\x00\x00IDAT",
    b"!\xff",
    b",",
)


def mutated(seed: int, number: int) -> tuple[str, bytes]:
    """Return the format and the bytes of a damaged picture."""
    rng = random.Random(f"{seed}/{number}")
    name = FORMATS[number % len(FORMATS)]
    data = bytearray(rng.choice(pictures(name)))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if data:
            rng.choice(DAMAGES)(rng, data)
    return name, _summed(data) if name == "PNG" and rng.random() < 0.8 else bytes(data)


@cache
def pictures(name: str) -> tuple[bytes, ...]:
    """Return the pictures of a format before they are damaged: each a few kilobytes."""
    return tuple(_encoded(name, mode, options) for mode, options in _VARIANTS[name]) + _by_hand(name)


def _encoded(name: str, mode: str, options: Mapping[str, Any]) -> bytes:
    given = dict(options)
    page = _drawn(mode)
    if "exif" in given:
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "upright"
        given["exif"] = exif
    if count := given.get("append_images"):
        given["append_images"] = [page.copy() for _ in range(count)]
    out = io.BytesIO()
    page.save(out, name, **given)
    return out.getvalue()


def _drawn(mode: str) -> Image.Image:
    """Return a picture with something in it: flat ones use a tenth of a decoder."""
    rng = random.Random(mode)
    noise = Image.frombytes("L", (48, 36), rng.randbytes(48 * 36))
    if mode == "I;16":
        return Image.frombytes(mode, (48, 36), rng.randbytes(48 * 36 * 2))
    page = Image.merge("RGB", (noise, Image.linear_gradient("L").resize(noise.size), noise))
    return page.quantize(32) if mode == "P" else page.convert(mode)


def _by_hand(name: str) -> tuple[bytes, ...]:
    """Return what Pillow reads and doesn't write: run-length BMP, interlaced PNG."""
    if name == "BMP":
        rows = (
            b"".join(b"\x10\x01\x00\x04\x01\x02\x03\x04\x0c\x02\x00\x00" for _ in range(16))
            + b"\x00\x02\x03\x01\x00\x01"
        )
        palette = bytes(range(256)) * 4
        head = struct.pack("<IiiHHIIiiII", 40, 32, 16, 1, 8, 1, len(rows), 2835, 2835, 256, 0)
        at = 14 + len(head) + len(palette)
        return (b"BM" + struct.pack("<IHHI", at + len(rows), 0, 0, at) + head + palette + rows,)
    if name == "PNG":
        # Adam7 of 8 x 8: seven small pictures.
        passes = ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))
        rows = b"".join(bytes(1 + width) * height for width, height in passes)
        head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)
        parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        return (b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in parts),)
    return ()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _summed(data: bytearray) -> bytes:
    """Set the checksums of a PNG's chunks right, without which its decoder looks no further."""
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if at + 12 + length > len(data):
            break
        struct.pack_into(">I", data, at + 8 + length, zlib.crc32(data[at + 4 : at + 8 + length]))
        at += 12 + length
    return bytes(data)


# --- damages --------------------------------------------------------------------------------------------------


def _flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 4, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _flip_head(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(min(len(data), 64))] = rng.randrange(256)


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _number(rng: random.Random, data: bytearray) -> None:
    """Write a number at which something overflows, anywhere or in the head, in either byte order."""
    width = rng.choice((1, 2, 4))
    order: Literal["little", "big"] = "little" if rng.random() < 0.5 else "big"
    value = (rng.choice(_NUMBERS) & (1 << 8 * width) - 1).to_bytes(width, order)
    at = rng.randrange(min(len(data), rng.choice((32, 256, len(data)))))
    data[at : at + width] = value[: len(data) - at]


def _repeat(rng: random.Random, data: bytearray) -> None:
    begin = rng.randrange(len(data))
    piece = data[begin : begin + rng.choice((1, 4, 16, 256, 4096))]
    at = rng.randrange(len(data) + 1)
    data[at:at] = piece * rng.choice((1, 2, 50))


def _drop(rng: random.Random, data: bytearray) -> None:
    begin = rng.randrange(len(data))
    del data[begin : begin + rng.choice((1, 2, 12, 100))]


def _move(rng: random.Random, data: bytearray) -> None:
    begin, at, size = rng.randrange(len(data)), rng.randrange(len(data)), rng.choice((4, 12, 64))
    data[at : at + size] = data[begin : begin + size][: len(data) - at]


def _noise(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    size = min(rng.choice((4, 64, 1024)), len(data) - at)
    data[at : at + size] = rng.randbytes(size)


def _mark(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice(_MARKERS)


def _join(rng: random.Random, data: bytearray) -> None:
    """Put the begin of another format's picture inside, or behind."""
    at = rng.choice((len(data), rng.randrange(len(data) + 1)))
    other = rng.choice(pictures(rng.choice(FORMATS)))
    data[at:at] = other[: rng.choice((16, 256, len(other)))]


def _claim(rng: random.Random, data: bytearray) -> None:
    """Write other sides where the format has them, mostly ones that pass a limit of 100 million pixels."""
    for at, width, order in _sides(bytes(data)):
        side = rng.choice((0, 1, 47, 1000, 5000, 10_000, 20_000, 65_535, 2**31 - 1))
        if at + width <= len(data):
            data[at : at + width] = (side & (1 << 8 * width) - 1).to_bytes(width, order)


def _sides(data: bytes) -> tuple[tuple[int, int, Literal["little", "big"]], ...]:  # noqa: PLR0911 one a format
    """Return where width and height are: position, bytes, order."""
    match data[:2]:
        case b"\x89P":
            return ((16, 4, "big"), (20, 4, "big"))
        case b"BM":
            return ((18, 4, "little"), (22, 4, "little"))
        case b"GI":
            return ((6, 2, "little"), (8, 2, "little"))
        case b"RI":
            at, width = (24, 3) if data[12:16] == b"VP8X" else (26, 2)
            return ((at, width, "little"), (at + width, width, "little"))
        case b"\xff\xd8":
            return tuple(
                (found.start() + 5 + more, 2, "big")
                for found in re.finditer(rb"\xff[\xc0\xc2]", data)
                for more in (0, 2)
            )
        case b"II" if len(data) > 8:
            at = int.from_bytes(data[4:8], "little")
            entries = range(at + 2, at + 2 + 12 * 20, 12)
            tags = {data[entry : entry + 2]: entry for entry in entries}
            found = (tags.get(b"\x00\x01"), tags.get(b"\x01\x01"))
            return tuple((entry + 8, 2, "little") for entry in found if entry is not None)
    return ()


DAMAGES: Final[tuple[Callable[[random.Random, bytearray], None], ...]] = (
    *(
        _flip,
        _flip_head,
        _cut,
        _number,
        _number,
        _number,
        _repeat,
        _drop,
        _move,
        _noise,
        _mark,
        _join,
        _claim,
        _claim,
    ),
)
