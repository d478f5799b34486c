"""The direction of short words is the one in which they lie side by side."""

from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.layout import quads, skew
from ocr_inference.layout.quads import Quad


def words(angle: float, crooked: float, size: tuple[float, float]) -> list[Quad]:
    """Return words in five rows of three, all of them crooked by an angle."""
    places = [(left, 60.0 * row) for row in range(5) for left in (0.0, 300.0, 700.0)]
    return [quads.rectangle(quads.along(place, -angle), size, angle + crooked) for place in places]


@given(st.floats(-180, 180), st.floats(-1.2, 1.2))
def test_short_words_are_as_straight_as_their_rows(angle: float, crooked: float) -> None:
    assert abs(quads.between(skew.direction(words(angle, crooked, (60, 25)), angle + crooked), angle)) < 0.6


@given(st.floats(-180, 180))
def test_long_lines_say_it_themselves(angle: float) -> None:
    assert abs(quads.between(skew.direction(words(angle, 0, (280, 25)), angle + 5), angle)) < 0.5


@given(st.floats(-1, 1))
def test_a_page_that_may_be_upright_is(angle: float) -> None:
    assert skew.direction([quads.rectangle((50, 50), (60, 25), angle)], 3) == 0


def test_a_line_without_length_has_the_direction_that_it_was_given() -> None:
    assert skew.direction([quads.rectangle((50, 50), (0, 25), 0)], 90) == 90
