"""The size at which a page is read where memory is short."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.families import deepseek_ocr, deepseek_ocr2, page_size
from ocr_inference.families.page_size import GIB
from ocr_wire.tasks import RESOLUTIONS


@pytest.mark.parametrize(
    ("gib", "side"),
    [(0, 1536), (5.99, 1536), (6, 2048), (7.99, 2048), (8, 3072), (11.99, 3072), (12, 4096), (80, 4096)],
)
def test_the_longer_side_by_free_memory(gib: float, side: int) -> None:
    assert page_size.longest_side(int(gib * GIB), None) == side


def test_a_page_that_is_bounded_with_plenty_of_memory_is_not_said_to_lack_any() -> None:
    assert "4096 pixels" in page_size.why(4096, 80 * GIB)
    assert page_size.why(1536, int(4.25 * GIB)) == "4.2 GiB of GPU memory were free when the page began"


def test_no_bound_where_memory_is_unknown_or_the_request_says_otherwise() -> None:
    assert page_size.longest_side(None, None) is None
    assert page_size.longest_side(0, "gundam") is None


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_more_memory_never_means_a_smaller_page(one: int, other: int) -> None:
    low, high = (page_size.longest_side(each, None) or 0 for each in sorted((one, other)))
    assert low <= high


@given(st.integers(1, 70_000), st.integers(1, 70_000), st.one_of(st.none(), st.integers(1, 5000)))
def test_a_page_is_fitted_in_proportion_and_never_enlarged(
    width: int, height: int, longest: int | None
) -> None:
    fitted = page_size.fitted(width, height, longest)
    if longest is None or max(width, height) <= longest:
        assert fitted == (width, height)
        return
    assert max(fitted) == longest
    assert min(fitted) >= 1
    assert abs(min(fitted) - min(width, height) * longest / max(width, height)) <= 1


def test_smaller_sizes_of_each_family() -> None:
    version1, version2 = deepseek_ocr.RESOLUTIONS, deepseek_ocr2.RESOLUTIONS
    assert page_size.smaller_resolutions(version1, "gundam") == ("base", "small", "tiny")
    assert page_size.smaller_resolutions(version1, "large") == ("base", "small", "tiny")
    assert page_size.smaller_resolutions(version1, "base") == ("small", "tiny")
    assert page_size.smaller_resolutions(version2, "gundam") == ("base", "small")
    assert page_size.smaller_resolutions(version1, "tiny") == ()
    assert page_size.smaller_sides(2000) == ("1536px", "1024px")
    assert page_size.smaller_sides(1024) == ()
    assert set(page_size.SMALLER_RESOLUTIONS) < set(RESOLUTIONS)


def test_sizes_are_words() -> None:
    assert [page_size.side(each) for each in ("1536px", "base", "px", None)] == [1536, None, None, None]
    assert page_size.size(1024) == "1024px"
