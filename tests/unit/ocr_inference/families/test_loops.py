"""The loop guard against the same rule written down the slow way."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.families import chat, deepseek_ocr, deepseek_ocr2
from ocr_inference.families.loops import LoopGuard

TOKENS = st.lists(st.integers(0, 3), max_size=60)


def slowly(written: Sequence[int], ngram: int, window: int, allowed: frozenset[int]) -> frozenset[int]:
    tail = list(written)[-window:]
    if len(tail) < ngram - 1:
        return frozenset()
    prefix = tail[len(tail) - (ngram - 1) :]
    starts = range(len(tail) - ngram + 1)
    return frozenset(tail[at + ngram - 1] for at in starts if tail[at : at + ngram - 1] == prefix) - allowed


@given(TOKENS, st.integers(2, 6), st.integers(1, 40), st.frozensets(st.integers(0, 3)))
def test_it_bans_what_would_repeat_a_phrase_of_the_window(
    written: list[int], ngram: int, window: int, allowed: frozenset[int]
) -> None:
    assert LoopGuard(ngram, window, allowed).banned(written) == slowly(written, ngram, window, allowed)


@given(TOKENS)
def test_no_phrase_comes_twice_within_the_window(tokens: list[int]) -> None:
    guard = LoopGuard(3, 20)
    written: list[int] = []
    for wanted in tokens:
        banned = guard.banned(written)
        if free := [each for each in (wanted, 0, 1, 2, 3) if each not in banned]:
            written.append(free[0])
    for end in range(3, len(written) + 1):
        phrase, before = written[end - 3 : end], written[max(0, end - 1 - 20) : end - 1]
        assert all(before[at : at + 3] != phrase for at in range(len(before) - 2))


def test_token_ids_beyond_what_characters_are_do_not_matter() -> None:
    high = [128_820, 55_296, 57_343, 199_999]  # surrogates among them
    assert LoopGuard(2, 90).banned([*high, high[0]]) == {high[1]}


def test_cells_of_tables_may_repeat() -> None:
    for guard in (deepseek_ocr.GUARD, deepseek_ocr2.GUARD):
        assert (guard.ngram, guard.window, guard.allowed) == (30, 90, frozenset({128821, 128822}))
    row = [128821, 7, 128822]
    written = row * 20
    assert deepseek_ocr.GUARD.banned(written) == frozenset(), "the next token opens a cell"
    assert deepseek_ocr.GUARD.banned([*written, 128821]) == {7}


def test_numbers_of_chat_models() -> None:
    assert (chat.GUARD.ngram, chat.GUARD.window) == (35, 128)
