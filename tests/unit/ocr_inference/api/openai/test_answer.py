from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.api.openai.answer import StopTexts, Writer, usage


def told(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    cutter = StopTexts(stops)
    out = "".join(cutter.add(piece) for piece in pieces)
    return out + cutter.rest(), cutter.found


def test_a_stop_text_ends_the_answer_before_it() -> None:
    assert told(["END"], ["one ", "two EN", "D three"]) == ("one two ", True)


def test_what_may_become_a_stop_text_is_held_back_and_told_when_it_does_not() -> None:
    cutter = StopTexts(["<end>"])
    assert cutter.add("a <en") == "a "
    assert cutter.add("d of it>") == "<end of it>"
    assert cutter.add(" and <e") == " and "
    assert cutter.rest() == "<e"
    assert not cutter.found


def test_nothing_is_told_after_the_end() -> None:
    cutter = StopTexts(["."])
    assert cutter.add("a.b") == "a"
    assert (cutter.add("c"), cutter.rest()) == ("", "")


def test_of_several_the_one_that_is_complete_first_counts() -> None:
    assert told(["abcd", "c"], ["abcd"]) == ("ab", True)
    assert told(["abc", "bc"], ["xabc"]) == ("x", True)


WORDS = st.text("ab.", max_size=12)


@given(st.lists(st.text("ab.", min_size=1, max_size=4), max_size=4), st.lists(WORDS, max_size=6))
def test_the_outcome_does_not_depend_on_the_pieces(stops: list[str], pieces: list[str]) -> None:
    assert told(stops, pieces) == told(stops, ["".join(pieces)])
    assert told(stops, pieces) == told(stops, list("".join(pieces)))


@given(st.lists(st.text("ab.", min_size=1, max_size=4), max_size=4), WORDS)
def test_the_answer_is_cut_before_the_first_stop_text_and_nowhere_else(stops: list[str], text: str) -> None:
    out, found = told(stops, [text])
    assert text.startswith(out)
    assert found == any(stop in text for stop in stops)
    assert not any(stop in out for stop in stops)
    if not found:
        assert out == text


def test_chunks_have_a_usage_key_where_usage_is_asked_for() -> None:
    writer = Writer("chatcmpl-1", 7, "m", include_usage=True)
    assert [chunk["usage"] for chunk in (writer.begin(), writer.piece("x"), writer.end("stop", {}))] == [
        None
    ] * 3
    last = writer.usage_chunk(usage(3, 4))
    assert (last["choices"], last["usage"].total_tokens) == ([], 7)
    assert "usage" not in Writer("chatcmpl-1", 7, "m").piece("x")
