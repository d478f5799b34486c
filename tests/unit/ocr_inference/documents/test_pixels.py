"""Pixels mean what they mean, in every mode that a file may have."""

import io
from typing import Any

import pytest
from PIL import Image, ImageDraw

from ocr_inference.documents import pixels
from tests.support.tiffs import Row, tiff

LIMIT = 10_000_000


def page(data: bytes, max_pixels: int = LIMIT) -> Image.Image:
    file = io.BytesIO(data)
    return pixels.page(Image.open(file), file, max_pixels)


def saved(image: Image.Image, name: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def shades(image: Image.Image) -> list[int]:
    return list(image.convert("L").tobytes())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (Row("B", [0, 255, 128]), [0, 255, 128]),
        (Row("H", [0, 65535, 32896]), [0, 255, 128]),
        (Row("H", [0, 4095, 2048]), [0, 255, 128]),  # 12 bits in 16
        (Row("H", [0, 1023, 514]), [0, 255, 128]),  # 10
        (Row("H", [0, 20000, 10000]), [0, 78, 39]),  # a dark page of 16
        (Row("H", [0, 0, 0]), [0, 0, 0]),
        (Row("h", [0, 32767, 16384]), [0, 127, 64]),
        (Row("h", [-100, 100, 0]), [0, 255, 127]),
        (Row("i", [0, 2**31 - 1, 2**30]), [0, 255, 127]),
        (Row("f", [0.0, 1.0, 0.5]), [0, 255, 127]),
        (Row("f", [0.0, 255.0, 128.0]), [0, 255, 128]),
        (Row("f", [-1.0, 3.0, 1.0]), [0, 255, 127]),
        (Row("f", [0.0, 1.0, float("inf")]), [0, 255, 255]),
    ],
)
def test_deep_greys_keep_their_range(row: Row, order: Any, expected: list[int]) -> None:
    assert shades(page(tiff(Row(row.format, row.samples, row.white_is_zero, order)))) == pytest.approx(
        expected, abs=1
    )


@pytest.mark.parametrize(
    "row",
    [
        Row("B", [0, 255], white_is_zero=True),
        Row("H", [0, 65535], white_is_zero=True),
        Row("H", [0, 4095], white_is_zero=True),
        Row("f", [0.0, 1.0], white_is_zero=True),
    ],
)
def test_zero_is_white_where_the_file_says_so(row: Row) -> None:
    assert shades(page(tiff(row))) == [255, 0]


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "LA", "PA", "I;16", "I", "F"]
)
def test_ink_stays_darker_than_paper(mode: str) -> None:
    drawn = Image.new("L", (40, 20), 255)
    drawn.paste(0, (10, 5, 20, 15))
    if mode in ("I", "I;16"):
        image = drawn.convert("I").point(lambda value: value * 257).convert(mode)
    elif mode == "LAB":
        image = Image.merge("LAB", (drawn, Image.new("L", drawn.size, 128), Image.new("L", drawn.size, 128)))
    else:
        image = drawn.convert(
            "RGBA" if mode == "PA" else "RGB" if mode in ("CMYK", "YCbCr", "P") else mode
        ).convert(mode)
    assert image.mode == mode
    name = "PNG" if mode in ("P", "PA") else "TIFF"
    found = page(saved(image.convert("P") if mode == "PA" else image, name))
    assert found.mode == "RGB"
    grey = found.convert("L")
    ink, paper = grey.getpixel((15, 10)), grey.getpixel((2, 2))
    assert (ink, paper) == pytest.approx((0, 255), abs=50)


def test_cmyk_of_a_jpeg_is_read_as_its_maker_wrote_it() -> None:
    """Adobe's programs write inks inverted, and say so by a segment of theirs, as does Pillow."""
    data = saved(Image.new("CMYK", (16, 16), (0, 0, 0, 255)), "JPEG")
    assert b"Adobe" in data
    assert max(shades(page(data))) < 20


def text(ink: tuple[int, ...] | str, ground: tuple[int, ...], mode: str = "RGBA") -> Image.Image:
    image = Image.new("RGBA", (200, 60), ground)
    ImageDraw.Draw(image).text((10, 10), "Ground", fill=ink, font_size=30)
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize(
    ("ink", "ground"),
    [((255, 255, 255, 255), 0), ((240, 230, 120, 255), 0), ((0, 0, 0, 255), 255), ((200, 0, 0, 255), 255)],
)
def test_transparent_pictures_get_a_ground_that_contrasts(mode: str, ink: Any, ground: int) -> None:
    image = text(ink, (0, 0, 0, 0))
    found = page(saved(image.quantize(4) if mode == "P" else image.convert(mode))).convert("L")
    assert found.getpixel((199, 59)) == pytest.approx(ground, abs=2)
    low, high = found.getextrema()
    assert isinstance(low, int)
    assert isinstance(high, int)
    assert high - low > 150


def test_ink_of_both_kinds_is_seen_on_grey() -> None:
    image = text("white", (0, 0, 0, 0))
    ImageDraw.Draw(image).text((10, 30), "Ground", fill="black", font_size=30)
    found = page(saved(image)).convert("L")
    assert found.getpixel((199, 59)) == 128


def test_what_is_inside_of_an_opaque_part_says_nothing_of_the_ground() -> None:
    """A dark photo in a page, with black text on its transparent paper."""
    image = text("black", (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (150, 30, 200, 60))
    ImageDraw.Draw(image).rectangle((150, 30, 199, 59), outline="black")
    assert page(saved(image)).getpixel((0, 0)) == (255, 255, 255)


def test_one_shade_that_is_transparent_is_no_ink() -> None:
    image = Image.new("L", (20, 20), 7)
    image.paste(0, (5, 5, 15, 15))
    found = page(saved(image, transparency=7))
    assert found.getpixel((0, 0)) == (255, 255, 255)
    deep = Image.new("I;16", (20, 20), 65535)
    assert page(saved(deep, transparency=65535)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("dpi", "size"),
    [
        ((204, 98), (100, 104)),
        ((204, 196), (100, 50)),
        ((98, 204), (208, 50)),
        ((1000, 10), (100, 50)),
        (None, (100, 50)),
    ],
)
def test_a_faxs_low_pixels_are_made_square(dpi: Any, size: tuple[int, int]) -> None:
    options = {} if dpi is None else {"dpi": dpi}
    assert page(saved(Image.new("1", (100, 50)), "TIFF", compression="group4", **options)).size == size


def test_a_fax_that_would_pass_the_limit_stays_as_it_is() -> None:
    data = saved(Image.new("1", (100, 50)), "TIFF", dpi=(204, 98))
    assert page(data, 100 * 100).size == (100, 50)


@pytest.mark.parametrize(
    ("orientation", "size"), [(1, (40, 20)), (3, (40, 20)), (6, (20, 40)), (8, (20, 40))]
)
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_are_turned_upright(name: str, orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert page(saved(Image.new("RGB", (40, 20)), name, exif=exif)).size == size


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_marker_is_read(mode: str, progressive: bool) -> None:
    whole = saved(Image.effect_noise((120, 200), 80).convert(mode), "JPEG", progressive=progressive)
    assert whole.endswith(b"\xff\xd9")
    expected = page(whole)
    assert page(whole[:-2]).tobytes() == expected.tobytes()
    # With a few bytes less, all but the last rows are there.
    assert page(whole[:-12]).crop((0, 0, 120, 150)).convert("L").getextrema() == pytest.approx(
        expected.crop((0, 0, 120, 150)).convert("L").getextrema(), abs=40
    )


@pytest.mark.parametrize("shade", ["white", "black"])
def test_a_jpeg_without_its_lower_half_is_damaged(shade: str) -> None:
    image = Image.new("RGB", (400, 400), shade)
    image.paste(Image.effect_noise((400, 200), 80), (0, 0))
    image.paste(Image.effect_noise((400, 50), 80), (0, 350))
    whole = saved(image, "JPEG")
    with pytest.raises(OSError, match="truncated"):
        page(whole[: len(whole) // 2])


def test_a_progressive_jpeg_of_a_few_scans_is_damaged() -> None:
    whole = saved(Image.effect_noise((400, 400), 80), "JPEG", progressive=True)
    second = [at for at in range(len(whole)) if whole[at : at + 2] == b"\xff\xda"][1]
    with pytest.raises(OSError, match="truncated"):
        page(whole[: second + 200])
