import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ocr_inference.documents import images
from ocr_inference.documents.headers import Picture
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page import FORMATS
from ocr_inference.protocol.page_file import PageFile
from tests.support import pages

LIMIT = 100_000_000


async def check(data: bytes, limit: int) -> Picture:
    with PageFile.of(data) as page:
        return await images.check(page, limit)


@pytest.mark.parametrize("name", FORMATS)
async def test_format_and_size_are_read_from_the_header(name: str) -> None:
    picture = await check(pages.encoded(Image.new("RGB", (30, 20), "red"), name), LIMIT)
    assert picture == Picture(name, 30, 20)


@pytest.mark.parametrize("options", [{"lossless": True}, {"lossless": False}, {"exif": b"Exif\0\0"}])
async def test_all_kinds_of_webp_are_measured_without_opening_them(options: dict[str, object]) -> None:
    import io

    out = io.BytesIO()
    Image.new("RGBA", (301, 17), (1, 2, 3, 4)).save(out, "WEBP", **options)
    assert await check(out.getvalue(), LIMIT) == Picture("WEBP", 301, 17)


async def test_a_truncated_picture_passes_the_header_check() -> None:
    assert (await check(pages.truncated(), LIMIT)).format == "PNG"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 422, "empty_upload"),
        (b"hello", 415, "unsupported_media_type"),
        (b"%PDF-1.4", 415, "unsupported_media_type"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported_media_type"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "unsupported_media_type"),
        (pages.bomb(), 413, "image_too_large"),
        (pages.bomb(70_000, 2), 413, "image_too_large"),
    ],
    ids=["empty", "text", "pdf", "svg", "eps", "bomb", "long side"],
)
async def test_what_is_refused(data: bytes, status: int, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        await check(data, LIMIT)
    assert (caught.value.status, caught.value.code) == (status, code)


async def test_the_limit_is_exact() -> None:
    data = pages.blank(40, 25)
    assert (await check(data, 1000)).width == 40
    with pytest.raises(ApiError):
        await check(data, 999)


async def test_a_png_without_pixels_is_damaged() -> None:
    head = struct.pack(">IIBBBBB", 0, 5, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", len(head)) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    with pytest.raises(ApiError) as caught:
        await check(b"\x89PNG\r\n\x1a\n" + chunk, LIMIT)
    assert caught.value.status in {415, 422}


@given(st.sampled_from([*FORMATS]), st.data())
async def test_damage_anywhere_is_a_picture_or_a_refusal(name: str, data: st.DataObject) -> None:
    whole = bytearray(pages.encoded(Image.new("RGB", (9, 7), "blue"), name))
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)):
        whole[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    status, pixels = 400, 0
    try:
        picture = await check(bytes(whole[:cut]), LIMIT)
        pixels = picture.width * picture.height
    except ApiError as error:
        status = error.status
    assert 400 <= status < 500
    assert pixels <= LIMIT


async def test_a_small_file_with_many_parts_is_read_as_well() -> None:
    png = pages.encoded(Image.new("RGB", (30, 20)), "PNG")
    chunk = bytes(4) + b"tEXt" + bytes(4)
    for chunks in (images.SMALL_PARTS // 2, images.SMALL_PARTS * 2):
        padded = png[:33] + chunk * chunks + png[33:]
        assert len(padded) <= images.SMALL_BYTES
        assert await check(padded, LIMIT) == Picture("PNG", 30, 20)
