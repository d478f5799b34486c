import asyncio
import logging

import pytest

from ocr_wire.sparse import Sparse, loop_errors


def test_one_line_of_a_kind_within_some_seconds_tells_how_many_were_left_out() -> None:
    now = 0.0
    sparse = Sparse(lambda: now, seconds=10.0)
    assert [sparse.due("a"), sparse.due("a"), sparse.due("b"), sparse.due("a")] == [0, None, 0, None]
    now = 9.9
    assert sparse.due("a") is None
    now = 10.0
    assert [sparse.due("a"), sparse.due("b"), sparse.due("a")] == [3, 0, None]


def test_kinds_are_bounded() -> None:
    sparse = Sparse(lambda: 0.0)
    said = [sparse.due(str(number)) for number in range(10_000)]
    assert len([each for each in said if each is not None]) == Sparse.MOST_KINDS + 1


async def test_errors_that_nobody_awaits_are_a_line_not_a_flood(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(loop_errors(logging.getLogger("ours"), Sparse(lambda: 0.0)))

    def fail() -> None:
        raise OSError("the wire broke")

    for _ in range(1000):
        loop.call_soon(fail)
    await asyncio.sleep(0)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "the wire broke"
