"""How near a text and an order are to the right ones."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import layoutscore

TEXTS = st.text("ab漢", max_size=9)


def plainly(first: str, second: str) -> int:
    """Return the edit distance by its definition."""

    @cache
    def distance(a: int, b: int) -> int:
        if not a or not b:
            return a + b
        replaced = distance(a - 1, b - 1) + (first[a - 1] != second[b - 1])
        return min(replaced, distance(a - 1, b) + 1, distance(a, b - 1) + 1)

    return distance(len(first), len(second))


@given(TEXTS, TEXTS)
def test_edits_are_those_of_the_definition(first: str, second: str) -> None:
    assert layoutscore.edits(first, second) == plainly(first, second)


def test_an_error_counts_no_white_space() -> None:
    assert layoutscore.error("a b\nc", "ab c") == 0
    assert layoutscore.error("abcd", "abxd") == 0.25


@pytest.mark.parametrize(("ranks", "tau"), [([], 1), ([1, 2, 3], 1), ([3, 2, 1], -1), ([1, 3, 2], 1 / 3)])
def test_tau_is_one_in_order_and_less_one_backwards(ranks: list[int], tau: float) -> None:
    assert layoutscore.kendall(ranks) == pytest.approx(tau)
