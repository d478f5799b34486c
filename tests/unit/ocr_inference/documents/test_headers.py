"""Headers are read as Pillow reads them, with bounded work. What is refused here is harmless to Pillow, too."""

import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from ocr_inference.documents import headers
from ocr_inference.documents.headers import BadHeader, Picture
from ocr_inference.protocol.page import FORMATS
from tests.support import mutations, pages


@pytest.mark.parametrize("name", FORMATS)
def test_every_kind_of_picture_has_the_size_that_pillow_says(name: str) -> None:
    for data in mutations.pictures(name):
        with Image.open(io.BytesIO(data)) as image:
            assert headers.read(data) == Picture(name, *image.size)


@pytest.mark.parametrize(
    "data", [b"", b"BMX", b"RIFF....WAVEfmt ", b"%PDF-1.7", b"GIF88a", b"MM*\0", b"\x89PNG"]
)
def test_what_is_no_picture(data: bytes) -> None:
    try:
        found = headers.read(data)
    except BadHeader:
        found = None
    assert found is None


def test_a_jpeg_in_several_passes_and_with_what_cameras_append_is_read() -> None:
    whole = _saved("JPEG", progressive=True)
    assert headers.read(whole + b"\0" * 100 + b"\xff\xda" * 1000) == Picture("JPEG", 40, 30)


def test_what_is_appended_to_a_png_is_not_read() -> None:
    """Nor by Pillow, which ends at the chunk IEND."""
    whole = pages.blank() + bytes(12 * headers.MAX_PARTS)
    assert headers.read(whole) == Picture("PNG", 64, 48)
    with Image.open(io.BytesIO(whole)) as image:
        image.load()


def test_a_marker_across_two_steps_of_the_search_is_found() -> None:
    """The end, here: what comes behind it would be refused."""
    whole = _saved("JPEG")
    at = whole.rindex(b"\xff\xda") + 2
    at += int.from_bytes(whole[at : at + 2], "big")
    for size in range(headers.STEP_BYTES - 3, headers.STEP_BYTES + 3):
        zeros = bytes(size - (len(whole) - 2 - at))
        padded = whole[:at] + zeros + whole[at:] + b"\xff\xda\0\2" * (headers.MAX_SCANS + 1)
        assert headers.read(padded) == Picture("JPEG", 40, 30)


def test_a_jpeg_with_many_passes_is_refused() -> None:
    whole = _saved("JPEG", progressive=True)
    at = whole.rindex(b"\xff\xda")
    scan = whole[at:-2]
    allowed = headers.MAX_SCANS - whole.count(b"\xff\xda")
    assert headers.read(whole[:-2] + scan * allowed + whole[-2:]) is not None
    with pytest.raises(BadHeader, match="more than 100 passes"):
        headers.read(whole[:-2] + scan * (allowed + 1) + whole[-2:])


def test_a_jpeg_of_12_bits_is_refused_by_name() -> None:
    whole = bytearray(_saved("JPEG"))
    whole[whole.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(BadHeader, match="12 bits a colour"):
        headers.read(bytes(whole))


def test_an_end_inside_of_a_segment_hides_no_passes() -> None:
    whole = _saved("JPEG", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    comment = b"\xff\xfe\x00\x04\xff\xd9"
    with pytest.raises(BadHeader, match="passes"):
        headers.read(whole[:-2] + comment + scan * 100 + whole[-2:])


@pytest.mark.parametrize(
    ("piece", "count", "message"),
    [
        (b"\xff\xea\x00\x02", headers.MAX_PARTS + 1, "more than 65536 segments"),
        (b"\0", headers.MAX_PADDING + 1, "between its segments"),
        (b"\xff", headers.MAX_PADDING + 1, "between its segments"),
        (b"\xff\xe1\xff\xffExif\0\0".ljust(65_537, b"\0"), 17, "EXIF"),
    ],
    ids=["segments", "junk", "padding", "exif"],
)
def test_a_jpeg_with_much_before_its_pixels_is_refused(piece: bytes, count: int, message: str) -> None:
    whole = _saved("JPEG")
    behind_first_segment = 20
    head, rest = whole[:behind_first_segment], whole[behind_first_segment:]
    assert headers.read(head + piece * (count // 2) + rest) == Picture("JPEG", 40, 30)
    with pytest.raises(BadHeader, match=message):
        headers.read(head + piece * count + rest)


def test_a_png_of_many_chunks_and_one_with_much_exif_are_refused() -> None:
    whole = pages.blank()
    tiny = _chunk(b"abCd", b"")
    assert headers.read(whole[:33] + tiny * 1000 + whole[33:]) == Picture("PNG", 64, 48)
    with pytest.raises(BadHeader, match="chunks"):
        headers.read(whole[:33] + tiny * (headers.MAX_PARTS + 1) + whole[33:])
    with pytest.raises(BadHeader, match="EXIF"):
        headers.read(whole[:33] + _chunk(b"eXIf", bytes(headers.MAX_EXIF + 1)) + whole[33:])


def test_a_gif_of_many_blocks_is_refused() -> None:
    whole = _saved("GIF")
    at = whole.index(b",")
    comment = b"\x21\xfe\x01x\0"
    assert headers.read(whole[:at] + comment * 1000 + whole[at:]) == Picture("GIF", 40, 30)
    with pytest.raises(BadHeader, match="blocks"):
        headers.read(whole[:at] + comment * headers.MAX_PARTS + whole[at:])


@pytest.mark.parametrize(
    ("kind", "count"), [(5, headers.MAX_FRACTIONS + 1), (3, headers.MAX_NUMBERS + 1), (10, 2**32 - 1)]
)
def test_a_tiff_with_many_numbers_is_refused(kind: int, count: int) -> None:
    whole = bytearray(_saved("TIFF"))
    (at,) = struct.unpack_from("<I", whole, 4)
    (entries,) = struct.unpack_from("<H", whole, at)
    # The last tag becomes one that says so.
    struct.pack_into("<HHI", whole, at + 2 + 12 * (entries - 1), 0x9999, kind, count)
    with pytest.raises(BadHeader, match="numbers"):
        headers.read(bytes(whole))


def _saved(name: str, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), "white").save(out, name, **options)
    return out.getvalue()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
