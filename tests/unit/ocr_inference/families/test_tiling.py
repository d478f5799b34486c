"""How pages are cut, and how many tokens the pieces take: the numbers of the models' authors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.families import deepseek_ocr, deepseek_ocr2
from ocr_inference.families.tiling import Resolution, grid, views

SIDE = st.integers(1, 12_000)


def published(width: int, height: int, tile: int, most: int) -> tuple[int, int]:
    """`find_closest_aspect_ratio`, with which both models were trained, in its authors' terms."""
    ratios = {(i, j) for i in range(1, most + 1) for j in range(1, most + 1) if 2 <= i * j <= most}
    best_difference, best = float("inf"), (1, 1)
    for ratio in sorted(ratios, key=lambda each: each[0] * each[1]):
        difference = abs(width / height - ratio[0] / ratio[1])
        if difference < best_difference:
            best_difference, best = difference, ratio
        elif difference == best_difference and width * height > 0.5 * tile * tile * ratio[0] * ratio[1]:
            best = ratio
    return best


@given(width=SIDE, height=SIDE, tile=st.sampled_from([640, 768]), most=st.integers(2, 9))
def test_the_grid_is_the_published_one(width: int, height: int, tile: int, most: int) -> None:
    found = grid(width, height, tile, most)
    wanted = published(width, height, tile, most)
    # Grids of as many tiles that are as near are left to the order of a set there.
    assert found == wanted or (
        found[0] * found[1] == wanted[0] * wanted[1]
        and abs(width / height - found[0] / found[1]) == abs(width / height - wanted[0] / wanted[1])
    )
    assert 2 <= found[0] * found[1] <= most


@pytest.mark.parametrize(
    ("width", "height", "wanted"),
    [
        (1240, 1754, (2, 3)),
        (1754, 1240, (3, 2)),
        (2000, 2000, (3, 3)),
        (700, 700, (2, 2)),
        (9000, 100, (9, 1)),
    ],
)
def test_common_pages(width: int, height: int, wanted: tuple[int, int]) -> None:
    assert grid(width, height, 640, 9) == wanted


@given(width=SIDE, height=SIDE)
def test_a_page_within_a_tile_is_not_cut(width: int, height: int) -> None:
    seen = views(width, height, deepseek_ocr.RESOLUTIONS["gundam"])
    assert (seen.grid is None) == (max(width, height) <= 640)
    assert (seen.tiles == 0) == (seen.grid is None)
    assert views(width, height, deepseek_ocr.RESOLUTIONS["base"]).grid is None


VERSION_1 = {"tiny": 73, "small": 111, "base": 273, "large": 421}
"""64, 100, 256 and 400 places of the picture, a mark after each row and one after the view."""


@pytest.mark.parametrize(("name", "tokens"), VERSION_1.items())
def test_tokens_of_version_1_without_tiles(name: str, tokens: int) -> None:
    for size in ((1, 1), (640, 640), (3000, 4000)):
        assert deepseek_ocr.image_tokens(views(*size, deepseek_ocr.RESOLUTIONS[name])) == tokens


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [
        (640, 480, 273),  # small enough for no tiles
        (1240, 1754, 273 + 30 * (20 + 1)),  # 2 × 3 tiles of 10 × 10 places, a mark after each of 30 rows
        (2000, 2000, 273 + 30 * (30 + 1)),
        (9000, 100, 273 + 10 * (90 + 1)),
    ],
)
def test_tokens_of_version_1_with_tiles(width: int, height: int, tokens: int) -> None:
    assert deepseek_ocr.image_tokens(views(width, height, deepseek_ocr.RESOLUTIONS["gundam"])) == tokens


@pytest.mark.parametrize(
    ("name", "width", "height", "tokens"),
    [
        ("small", 3000, 4000, 145),
        ("base", 3000, 4000, 257),
        ("gundam", 768, 700, 257),
        ("gundam", 1240, 1754, 257 + 6 * 144),
    ],
)
def test_tokens_of_version_2(name: str, width: int, height: int, tokens: int) -> None:
    assert deepseek_ocr2.image_tokens(views(width, height, deepseek_ocr2.RESOLUTIONS[name])) == tokens


@given(width=SIDE, height=SIDE)
def test_tokens_are_bounded_whatever_the_page(width: int, height: int) -> None:
    resolution: Resolution
    for resolution in deepseek_ocr.RESOLUTIONS.values():
        assert 73 <= deepseek_ocr.image_tokens(views(width, height, resolution)) <= 273 + 930 + 60
    for resolution in deepseek_ocr2.RESOLUTIONS.values():
        assert 145 <= deepseek_ocr2.image_tokens(views(width, height, resolution)) <= 257 + 6 * 144
