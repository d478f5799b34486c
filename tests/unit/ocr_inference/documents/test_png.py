import io
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ocr_inference.documents import bitmap, png
from ocr_inference.documents.png import NoBitmap


def noise(width: int, height: int) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(0).randbytes(width * height * 3))


def bmp(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "BMP")
    return out.getvalue()


@given(st.integers(1, 9), st.integers(1, 9))
def test_every_pixel_stays(width: int, height: int) -> None:
    image = noise(width, height)
    with Image.open(io.BytesIO(png.packed(io.BytesIO(bmp(image))))) as found:
        assert found.format == "PNG"
        assert (found.size, found.tobytes()) == (image.size, image.tobytes())


def test_strips_join() -> None:
    image = noise(701, 499)  # a million bytes
    assert png._STRIP_BYTES < 701 * 499 * 3 / 3
    with Image.open(io.BytesIO(png.packed(io.BytesIO(bmp(image))))) as found:
        assert found.tobytes() == image.tobytes()


def test_a_bitmap_that_was_drawn_from_the_top_is_packed() -> None:
    with bitmap.drawn(3, 2, 144) as (fd, rows):
        rows.value = bytes(range(24))
        del rows
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        with Image.open(io.BytesIO(png.packed(file))) as found:
            pixels = [found.getpixel((x, y)) for y in range(2) for x in range(3)]
    assert pixels == [(2, 1, 0), (5, 4, 3), (8, 7, 6), (14, 13, 12), (17, 16, 15), (20, 19, 18)]


def test_paper_becomes_small() -> None:
    assert len(png.packed(io.BytesIO(bmp(Image.new("RGB", (1190, 1684), "white"))))) < 40_000


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"BM", bmp(noise(4, 4))[:-1], bmp(noise(4, 4))[:60], bmp(noise(4, 4).convert("L"))),
        b"PM" + bmp(noise(4, 4))[2:],
    ],
    ids=["nothing", "a mark alone", "an end that is missing", "a row alone", "grey", "another mark"],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(NoBitmap):
        png.packed(io.BytesIO(data))
