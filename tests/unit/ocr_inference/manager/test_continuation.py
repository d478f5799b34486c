import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.manager.continuation import Continuation, Differs


def pieces(text: str, cuts: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[begin:end] for begin, end in itertools.pairwise(edges)]


CUTS = st.lists(st.integers(0, 1000), max_size=8)


@given(st.text(max_size=40), st.lists(st.tuples(CUTS, st.integers(0, 8)), max_size=4), CUTS)
def test_attempts_that_end_anywhere_give_the_answer_once(
    text: str, attempts: list[tuple[list[int], int]], last: list[int]
) -> None:
    answer, got = Continuation(), ""
    for cuts, count in attempts:
        answer.begin()
        got += "".join(answer.add(piece) for piece in pieces(text, cuts)[:count])
        assert text.startswith(got)
        assert answer.begun == bool(got)
    answer.begin()
    got += "".join(answer.add(piece) for piece in pieces(text, last))
    answer.end()
    assert got == text


@given(st.text(min_size=1, max_size=20), st.text(max_size=20), CUTS)
def test_another_answer_is_noticed(first: str, other: str, cuts: list[int]) -> None:
    answer = Continuation()
    answer.begin()
    answer.add(first)
    answer.begin()
    if other.startswith(first):
        assert "".join(answer.add(piece) for piece in pieces(other, cuts)) == other[len(first) :]
        return
    with pytest.raises(Differs):  # noqa: PT012 either a piece or the end shows it
        for piece in pieces(other, cuts):
            answer.add(piece)
        answer.end()
