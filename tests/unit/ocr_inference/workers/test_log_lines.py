"""A worker's log: whole lines, and no more of them than are of use."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.workers import log_lines
from ocr_inference.workers.log_lines import BURST, PER_SECOND, Budget


async def passed(data: bytes, times: Sequence[float] = (0.0,)) -> list[str]:
    """What is passed on, where the clock shows `times`, the last one from then on."""
    stream, found, clock = asyncio.StreamReader(), list[str](), list(times)
    stream.feed_data(data)
    stream.feed_eof()
    await log_lines.pass_on(stream, found.append, lambda: clock.pop(0) if len(clock) > 1 else clock[0])
    return found


async def test_lines_are_passed_on_whole_and_empty_ones_are_not() -> None:
    assert await passed(b"one\n\n two \nthree") == ["one", " two", "three"]


async def lines_of(*chunks: bytes) -> list[str]:
    stream, found = asyncio.StreamReader(), list[str]()
    for chunk in chunks:
        stream.feed_data(chunk)
    stream.feed_eof()
    await log_lines.pass_on(stream, found.append)
    return found


async def test_lines_are_whole_whatever_the_pieces() -> None:
    assert await lines_of(b"one\ntw", b"o\n\nthree") == ["one", "two", "three"]


@pytest.mark.parametrize("before", range(4060, 4110, 7))
async def test_a_long_line_is_cut_between_words(before: int) -> None:
    token = "Bearer " + "t0" * 20
    found = await lines_of(b"x " * (before // 2), token.encode(), b" y" * 4000, b"\nend")
    assert token in " ".join(found)
    assert all(len(each) <= 3 * 4096 for each in found)
    assert any(token.partition(" ")[2] in each for each in found), "in one piece"
    assert found[-1] == "end"


async def test_what_has_no_blank_is_cut_all_the_same() -> None:
    found = await lines_of(b"x" * 100_000)
    assert "".join(found) == "x" * 100_000
    assert max(map(len, found)) <= 3 * 4096


async def test_a_flood_is_left_out_and_counted() -> None:
    found = await passed(b"".join(b"line %d\n" % number for number in range(100_000)))
    assert found[:BURST] == [f"line {number}" for number in range(BURST)]
    assert found[BURST:] == [f"{100_000 - BURST} lines left out"]


async def test_after_a_while_lines_come_again() -> None:
    found = await passed(b"line\n" * (BURST + 4), [0.0] * (BURST + 3) + [1.0])
    assert found[BURST:] == ["2 lines left out", "line", "line"]


@given(st.lists(st.floats(0, 10), max_size=3 * BURST))
def test_no_more_lines_than_the_budget_allows(pauses: list[float]) -> None:
    budget, now, said = Budget(0.0), 0.0, 0
    for pause in pauses:
        now += pause
        budget, left_out = log_lines.spend(budget, now)
        said += left_out is not None
    assert said <= BURST + PER_SECOND * now + 1
    assert said + budget.left_out <= len(pauses)
