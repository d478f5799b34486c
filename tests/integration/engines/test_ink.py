"""Where a page isn't blank, and what of that no line covers."""

import pytest
from PIL import Image, ImageDraw, ImageFont

from ocr_inference.layout import quads
from ocr_inference.layout.pieces import Rect

pytest.importorskip("cv2")

from ocr_inference.engines.rapidocr import ink

SIZE = (1000, 800)


def page(*words: tuple[tuple[int, int], str]) -> Image.Image:
    image = Image.new("RGB", SIZE, "white")
    for place, text in words:
        ImageDraw.Draw(image).text(place, text, "black", ImageFont.load_default(28))
    return image


def holds(outer: Rect, inner: Rect) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def test_a_page_of_one_colour_is_blank() -> None:
    assert ink.find(Image.new("RGB", SIZE, "#f0e8d8")).blank
    assert not ink.find(page(((100, 100), "word"))).blank


def test_text_is_looked_for_around_the_ink_only() -> None:
    bounds = ink.find(page(((400, 300), "word"))).bounds(SIZE, 20)
    assert holds(bounds, (400, 310, 450, 330))
    assert holds((360, 260, 520, 380), bounds)


def test_a_word_that_no_line_covers_is_looked_at_again() -> None:
    found = ink.find(page(((100, 100), "a line of text"), ((800, 700), "17")))
    line = quads.rectangle((190, 118), (190, 34), 0)
    (area,) = found.unread(SIZE, [line])
    assert holds(area, (800, 705, 830, 725))


def test_a_picture_and_a_rule_are_not_looked_at_again() -> None:
    image = page(((100, 100), "a line of text"))
    ImageDraw.Draw(image).rectangle((300, 300, 700, 700), "grey")
    ImageDraw.Draw(image).line((100, 200, 900, 200), "black", 2)
    assert ink.find(image).unread(SIZE, [quads.rectangle((190, 118), (190, 34), 0)]) == []


def test_an_area_too_large_takes_nothing_from_the_others() -> None:
    image = page(((100, 100), "a line of text"), ((800, 700), "17"))
    ImageDraw.Draw(image).rectangle((50, 300, 950, 320), "grey")
    (area,) = ink.find(image).unread(SIZE, [quads.rectangle((190, 118), (190, 34), 0)])
    assert holds(area, (800, 705, 830, 725))


def test_what_sticks_out_of_a_line_is_not_looked_at_again() -> None:
    """The place of a line may end above the lower ends of its letters; their row is as long as one of text."""
    image = page()
    pen = ImageDraw.Draw(image)
    for left in range(100, 480, 40):
        pen.rectangle((left, 100, left + 3, 130), "black")
    line = quads.rectangle((280, 110), (400, 20), 0)
    assert ink.find(image).unread(SIZE, [line]) == []
    for left in range(125, 150, 8):
        pen.rectangle((left, 134, left + 2, 146), "black")
    (area,) = ink.find(image).unread(SIZE, [line])
    assert holds(area, (125, 134, 150, 146)), "what isn't joined to it is looked at, however close"
