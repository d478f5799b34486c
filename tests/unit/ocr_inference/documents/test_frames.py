"""Frames become pages as what is drawn on them, by whatever their file packs them."""

import io
import os
from contextlib import closing
from typing import Any

import pytest
from PIL import Image, ImageChops
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ocr_inference.documents.frames import Frames
from ocr_inference.documents.messages import is_sealed
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile

LIMIT = 100_000


def saved(frames: list[Image.Image], name: str, **options: Any) -> bytes:
    out = io.BytesIO()
    frames[0].save(out, name, save_all=True, append_images=frames[1:], **options)
    return out.getvalue()


def drawn(mark: int, mode: str = "RGB") -> Image.Image:
    """A page with a dark square at a place of its own."""
    image = Image.new("L", (60, 40), 255)
    image.paste(0, (10 * mark, 10, 10 * mark + 10, 20))
    return image.convert(mode)


def pages(data: bytes, max_pixels: int = LIMIT) -> list[Image.Image]:
    found = []
    with PageFile.of(data) as file, closing(Frames(file.fileno(), max_pixels)) as frames:
        for index in range(frames.count):
            rendered, fd = frames.render(index, 144)
            assert is_sealed(fd)
            with PageFile(fd) as page, page.open() as opened, Image.open(opened) as image:
                image.load()
                assert (rendered.index, rendered.width, rendered.height) == (index, *image.size)
                found.append(image.convert("L"))
    return found


def are_alike(one: Image.Image, other: Image.Image) -> bool:
    _, most = ImageChops.difference(one, other.convert("L")).getextrema()
    return isinstance(most, int) and most < 60


@pytest.mark.parametrize(
    ("compression", "mode"),
    [
        *(("group3", "1"), ("group4", "1"), ("packbits", "1"), ("tiff_ccitt", "1")),
        *(("tiff_lzw", "L"), ("tiff_adobe_deflate", "RGB"), ("tiff_deflate", "RGBA"), ("zstd", "RGB")),
        *(("jpeg", "L"), ("jpeg", "RGB"), ("lzma", "CMYK"), ("raw", "I;16")),
    ],
)
def test_every_page_of_a_tiff_is_read(compression: str, mode: str) -> None:
    expected = [drawn(mark, "L" if mode == "I;16" else mode) for mark in range(3)]
    if mode == "I;16":
        frames = [page.convert("I").point(lambda value: value * 257).convert("I;16") for page in expected]
    else:
        frames = expected
    found = pages(saved(frames, "TIFF", compression=compression))
    assert [are_alike(*pair) for pair in zip(found, expected, strict=True)] == [True] * 3


@pytest.mark.parametrize(
    ("name", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("WEBP", {"quality": 90}), ("PNG", {})]
)
def test_every_frame_of_an_animation_is_a_page(name: str, options: dict[str, Any]) -> None:
    expected = [drawn(mark) for mark in range(4)]
    found = pages(saved(expected, name, **options))
    assert [are_alike(*pair) for pair in zip(found, expected, strict=True)] == [True] * 4


def test_thumbnails_between_pages_are_left_out() -> None:
    marked = []
    for index, kind in enumerate((0, 1, 2)):
        image, tags = drawn(index), ImageFileDirectory_v2()
        tags[254] = kind
        image.encoderinfo = {"tiffinfo": tags}
        marked.append(image)
    found = pages(saved(marked, "TIFF", tiffinfo=marked[0].encoderinfo["tiffinfo"]))
    assert [are_alike(*pair) for pair in zip(found, (drawn(0), drawn(2)), strict=True)] == [True] * 2


def test_a_frame_that_is_too_large_or_damaged_is_an_error_of_its_own() -> None:
    data = saved([drawn(0), drawn(1).resize((600, 400)), drawn(2)], "TIFF", compression="tiff_lzw")
    with PageFile.of(data) as file, closing(Frames(file.fileno(), LIMIT)) as frames:
        with pytest.raises(ApiError, match="page 2 has 600 x 400 pixels") as caught:
            frames.render(1, 144)
        assert caught.value.status == 413
        os.close(frames.render(2, 144)[1])
    broken = bytearray(data)
    at = broken.index(b"\x80", 8)  # what LZW begins with
    broken[at : at + 20] = b"\xff" * 20
    with PageFile.of(bytes(broken)) as file, closing(Frames(file.fileno(), 10 * LIMIT)) as frames:
        with pytest.raises(ApiError, match="page 1 can't be decoded") as caught:
            frames.render(0, 144)
        assert caught.value.status == 422
        os.close(frames.render(1, 144)[1])
