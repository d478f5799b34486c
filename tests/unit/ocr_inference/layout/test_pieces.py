"""A page in pieces has the lines that it has as a whole."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.layout import pieces, quads
from ocr_inference.layout.pieces import Found, Rect
from ocr_inference.layout.quads import Quad

SIDE = 2000


def line(left: float, top: float, width: float, height: float = 30) -> Quad:
    return quads.rectangle((left + width / 2, top + height / 2), (width, height), 0)


def seen(lines: list[Quad], piece: Rect) -> Found:
    """Return what a piece shows of lines: those in it, cut at its ends."""
    parts = []
    for quad in lines:
        left, top = max(quad[0][0], piece[0]), max(quad[0][1], piece[1])
        right, bottom = min(quad[2][0], piece[2]), min(quad[2][1], piece[3])
        if right - left > 5 and bottom - top > 5:
            parts.append(line(left, top, right - left, bottom - top))
    return Found(piece, tuple(parts))


def rounded(lines: list[Quad]) -> list[tuple[int, ...]]:
    return sorted(tuple(round(edge) for edge in (*quad[0], *quad[2])) for quad in lines)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 65_000), st.integers(1, 65_000))
def test_pieces_cover_the_page_and_overlap(left: int, top: int, width: int, height: int) -> None:
    found = pieces.cut((left, top, left + width, top + height), SIDE)
    columns, rows = sorted({(x, end) for x, _, end, _ in found}), sorted({(y, low) for _, y, _, low in found})
    assert len(found) == len(columns) * len(rows)
    for spans, start, end in ((columns, left, left + width), (rows, top, top + height)):
        assert (spans[0][0], spans[-1][1]) == (start, end)
        for before, after in pairwise(spans):
            assert before[1] - after[0] >= 0.1 * (before[1] - before[0])
    assert all(max(x2 - x1, y2 - y1) <= pieces.SHRINK * SIDE for x1, y1, x2, y2 in found)


@pytest.mark.parametrize(
    "size", [(1240, 1754), (2480, 3508), (4960, 3508), (500, 1500), (736, 2000), (20, 1500)]
)
def test_an_ordinary_page_is_one_piece(size: tuple[int, int]) -> None:
    assert pieces.cut((0, 0, *size), SIDE) == [(0, 0, *size)]


def test_a_receipt_is_cut_across_only() -> None:
    found = pieces.cut((0, 0, 600, 9000), SIDE)
    assert len(found) > 4
    assert {(x, end) for x, _, end, _ in found} == {(0, 600)}


@given(st.sampled_from([(600, 9000), (9000, 700), (9000, 7000)]), st.randoms(use_true_random=False))
def test_lines_of_pieces_are_those_of_the_page(size: tuple[int, int], chance: random.Random) -> None:
    page = []
    for top in range(20, size[1] - 60, 211):
        left = chance.randint(5, 200)
        page.append(line(left, top + chance.randint(0, 30), chance.randint(100, size[0] - left - 5)))
    found = [seen(page, piece) for piece in pieces.cut((0, 0, *size), SIDE)]
    assert rounded(pieces.stitched(found)) == rounded(page)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_a_piece_is_scaled_within_bounds(width: int, height: int) -> None:
    scale = pieces.scale((width, height), SIDE)
    assert scale <= pieces.MAGNIFY
    assert scale * max(width, height) <= SIDE * (1 + 1e-9)
    assert scale >= 1 or scale * max(width, height) == pytest.approx(SIDE)


def test_a_line_alone_costs_no_more_than_its_pixels() -> None:
    """rapidocr itself would look for text in 7360 x 736 pixels."""
    assert pieces.scale((200, 20), SIDE) == pieces.MAGNIFY


def test_a_line_within_another_one_is_left_out() -> None:
    whole, part, other = line(0, 0, 200), line(100, 4, 50, 22), line(0, 40, 60)
    assert sorted(pieces.distinct([part, whole, other])) == sorted([whole, other])
    assert pieces.distinct([part, other], [whole]) == [other]
