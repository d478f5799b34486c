"""Places in what a model wrote: found where they are right, harmless where they aren't."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.families import tags
from ocr_inference.families.tags import Block, parse, pixels, quads

PIECE = st.sampled_from(
    [
        *("<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>", "[[1, 2, 3, 4]]", "[[", "]]", ", "),
        *("title", "# A\n", "[[0,0,999,999],[5,6,7,8]]", "[[1000, 0, 5, 5]]", "[[1001,0,5,5]]", "1e9", "-1"),
        *("__import__('os')", "\x1b[31m", "\u202e", "é", "\n\n"),
    ]
)
WRITTEN = st.one_of(st.lists(PIECE, max_size=40).map("".join), st.text(max_size=300))


def test_blocks_have_their_label_places_and_text() -> None:
    text = (
        "Before\n<|ref|>title<|/ref|><|det|>[[10, 20, 500, 60]]<|/det|>\n# Invoice\n\n"
        "<|ref|>text<|/ref|><|det|>[[1, 2, 3, 4], [5, 6, 7, 8]]<|/det|>\nTwo places"
    )
    reading = parse(text)
    assert reading.before == "Before\n"
    assert reading.blocks == (
        Block("title", ((10, 20, 500, 60),), "\n# Invoice\n\n"),
        Block("text", ((1, 2, 3, 4), (5, 6, 7, 8)), "\nTwo places"),
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[[0, 0, 999, 999]]", ((0, 0, 999, 999),)),
        ("[[0, 0, 1000, 1000]]", ((0, 0, 999, 999),)),  # the far edge as some models write it
        ("[[500, 600, 100, 200]]", ((100, 200, 500, 600),)),  # corners in order
        ("[[1, 2, 3, 4], [5, 6, 7, 1001]]", ((1, 2, 3, 4),)),  # one beyond the scale is left out
        ("[[1, 2, 3]]", ()),
        ("[1, 2, 3, 4]", ()),
        ("[[1, 2, 3, 4]", ()),
        ("[[1.5, 2, 3, 4]]", ()),
        ("[[-1, 2, 3, 4]]", ()),
        ("[[٣, 2, 3, 4]]", ()),  # digits of other scripts
        ("__import__('os').system('true')", ()),
        ("[[" + "9" * 5000 + ", 1, 1, 1]]", ()),
    ],
)
def test_places(text: str, found: tuple[object, ...]) -> None:
    assert quads(text) == found


def test_boxes_are_bounded_in_number() -> None:
    one = "<|ref|>x<|/ref|><|det|>[" + ", ".join(["[1, 2, 3, 4]"] * 1000) + "]<|/det|>"
    assert sum(len(block.places) for block in parse(one * 8).blocks) == tags.MAX_BOXES


def test_a_page_that_ends_in_the_middle_of_places_shows_none_of_them() -> None:
    assert parse("Text <|ref|>title<|/ref|><|det|>[[12, 3").before == "Text title"


@given(WRITTEN)
def test_whatever_is_written_no_tag_and_no_place_beyond_the_scale_comes_out(text: str) -> None:
    reading = parse(text)
    shown = reading.before + "".join(block.text + block.label for block in reading.blocks)
    for mark in ("<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>"):
        assert mark not in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    for block in reading.blocks:
        for x1, y1, x2, y2 in block.places:
            assert 0 <= x1 <= x2 <= tags.SCALE
            assert 0 <= y1 <= y2 <= tags.SCALE


@pytest.mark.parametrize(
    "piece", ["<|ref|>", "<|det|>[[", "[[1,2,3,4],", "<|ref|>a<|/ref|><|det|>", "\x1b]", "\x1b[0;"]
)
def test_time_grows_with_the_text_and_no_faster(piece: str) -> None:
    def seconds(count: int) -> float:
        text = "<|det|>" + piece * count
        began = time.process_time()
        parse(text)
        return time.process_time() - began

    seconds(1000)
    # Quadratic behaviour would take a thousand times as long.
    assert seconds(64_000) < 2.0


@given(
    quad=st.tuples(*[st.integers(0, tags.SCALE)] * 4),
    width=st.integers(1, 20_000),
    height=st.integers(1, 20_000),
)
def test_pixels_lie_on_the_page(quad: tags.Quad, width: int, height: int) -> None:
    x1, y1, x2, y2 = pixels(quad, width, height)
    assert 0 <= x1 <= width
    assert 0 <= x2 <= width
    assert 0 <= y1 <= height
    assert 0 <= y2 <= height
    assert pixels((0, 0, tags.SCALE, tags.SCALE), width, height) == (0, 0, width, height)
