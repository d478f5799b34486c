"""Places of lines are laid along the axis of the page, whichever way it is turned and whatever corner they begin at."""

import math

from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.layout import quads
from ocr_inference.layout.quads import Quad

ANGLES = st.floats(-180, 180)
QUADS = st.builds(
    quads.rectangle,
    st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
    st.tuples(st.floats(1, 1e4), st.floats(1, 1e3)),
    ANGLES,
)


def column(angle: float, count: int = 4) -> list[Quad]:
    """Return lines of a page turned by an angle, one below the other."""
    return [
        quads.rectangle(quads.along((100 + at, 40 * at), -angle), (200 + 2 * at, 20), angle)
        for at in range(count)
    ]


def apart(first: float, second: float) -> float:
    """Return how far two axes are apart, in degrees."""
    return abs((first - second + 90) % 180 - 90)


@given(QUADS, st.integers(-5, 5))
def test_turning_a_place_four_times_is_the_same_place(quad: Quad, quarters: int) -> None:
    assert quads.turned(quads.turned(quad, quarters), -quarters) == quad
    assert quads.turned(quad, 4) == quad


@given(QUADS, ANGLES)
def test_the_rectangle_around_a_place_holds_it(quad: Quad, angle: float) -> None:
    around = quads.enclosing(quad, angle)
    least = quads.length(quad) * quads.height(quad)
    assert quads.length(around) * quads.height(around) >= least * (1 - 1e-6)
    assert math.dist(quads.center(around), quads.center(quad)) <= 1e-6 * max(1, *map(abs, quads.center(quad)))
    assert abs(quads.between(quads.angle(around), angle)) < 1e-3


@given(ANGLES, st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_the_axis_is_that_of_the_lines(angle: float, starts: list[int]) -> None:
    lines = [quads.turned(quad, start) for quad, start in zip(column(angle), starts, strict=True)]
    assert apart(quads.axis(lines), angle) < 1e-6
    assert -90 < quads.axis(lines) <= 90 + 1e-5


def test_a_page_of_single_characters_has_an_upright_axis() -> None:
    assert quads.axis([]) == 0
    assert quads.axis([quads.rectangle((5, 5), (10, 9), 30)]) == 0


@given(ANGLES, st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_lines_are_laid_one_way_whatever_corner_they_begin_at(angle: float, starts: list[int]) -> None:
    lines = [quads.turned(quad, start) for quad, start in zip(column(angle, 5), starts, strict=True)]
    for placed in quads.laid(lines):
        assert not placed.across
        assert not placed.short
        assert abs(quads.between(quads.angle(placed.quad), quads.axis(lines))) < 1e-6


@given(st.floats(-89, 89))
def test_a_narrow_letter_is_laid_along_the_other_lines(angle: float) -> None:
    """The digit 1 is three times as high as wide, and no line that runs down."""
    digit = quads.rectangle(quads.along((400, 40), -angle), (7, 20), angle)
    placed = quads.laid([*column(angle), digit])[-1]
    assert placed.short
    assert abs(quads.between(quads.angle(placed.quad), angle)) < 1e-6


def test_a_crooked_box_of_a_short_word_is_drawn_anew() -> None:
    placed = quads.laid([*column(0), quads.rectangle((400, 40), (20, 18), 40)])[-1]
    assert placed.short
    assert abs(quads.angle(placed.quad)) < 1e-6


def test_a_short_word_in_line_with_one_across_the_page_runs_across_too() -> None:
    stamp, day = quads.rectangle((400, 40), (150, 20), -90), quads.rectangle((400, -60), (20, 24), 0)
    assert [placed.across for placed in quads.laid([*column(0), stamp, day])[-2:]] == [True, True]


def test_a_line_across_the_others_runs_down_until_it_is_read() -> None:
    placed = quads.laid([*column(0), quads.rectangle((400, 40), (150, 20), -90)])[-1]
    assert placed.across
    assert abs(quads.angle(placed.quad) - 90) < 1e-6
