"""Lines of an invisible layer: where they stand, and what a place of several lines becomes."""

from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.documents.formats import layer

WORDS = st.lists(st.text(st.sampled_from("abcxyz漢字אב"), min_size=1, max_size=8), max_size=40).map(" ".join)


def place(width: int, height: int) -> layer.Corners:
    return ((10, 20), (10 + width, 20), (10 + width, 20 + height), (10, 20 + height))


def test_a_line_fills_its_place() -> None:
    assert list(layer.rows("Invoice number 4711", place(200, 22))) == [
        ("Invoice number 4711", place(200, 22))
    ]


def test_a_paragraph_gets_as_many_lines_as_fit_its_shape() -> None:
    text = "the quick brown fox jumps over the lazy dog and " * 4
    lines = [line for line, _ in layer.rows(text, place(400, 120))]
    assert 3 <= len(lines) <= 7
    assert " ".join(lines).split() == text.split()


def test_lines_that_were_written_stay_lines() -> None:
    found = list(layer.rows("one\n\ntwo three", place(300, 60)))
    assert [line for line, _ in found] == ["one", "two three"]
    assert found[1][1][0] == (10.0, 50.0)


@given(WORDS, st.integers(0, 2000), st.integers(0, 2000))
def test_no_character_is_lost_and_none_leaves_its_place(text: str, width: int, height: int) -> None:
    found = list(layer.rows(text, place(width, height)))
    if width and height:
        assert "".join("".join(line for line, _ in found).split()) == "".join(text.split())
    for _, corners in found:
        for x, y in corners:
            assert 10 - 1e-6 <= x <= 10 + width + 1e-6
            assert 20 - 1e-6 <= y <= 20 + height + 1e-6
