"""Parts of a page are cut out by a process of their own."""

import io

import pytest
from PIL import Image

from ocr_inference.documents import cropping
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile
from tests.support import pages


async def test_parts_are_cut_out_of_the_upright_page() -> None:
    page = Image.new("RGB", (60, 40), "white")
    page.paste("red", (10, 20, 30, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    out = io.BytesIO()
    page.save(out, "PNG", exif=exif)
    with PageFile.of(out.getvalue()) as file:
        red, white = await cropping.crops(file, [(0, 10, 20, 30), (20, 30, 40, 60)], 10_000)
    with Image.open(io.BytesIO(red)) as part:
        assert (part.format, part.size) == ("JPEG", (20, 20))
        assert part.getpixel((10, 10))[1] < 50  # type: ignore[index]
    with Image.open(io.BytesIO(white)) as part:
        assert part.getpixel((10, 10)) == (255, 255, 255)


@pytest.mark.parametrize("data", [b"no picture", pages.truncated(), pages.bomb()])
async def test_what_cannot_be_decoded_is_an_error(data: bytes) -> None:
    with PageFile.of(data) as file, pytest.raises(ApiError) as error:
        await cropping.crops(file, [(0, 0, 1, 1)], 1_000_000)
    assert error.value.code == "invalid_page"
