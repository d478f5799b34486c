"""Asks that were sent, while the wall clock is set."""

from datetime import UTC, datetime, timedelta

from ocr_operator.controllers.preemption import _Sent
from ocr_operator.decide.preemption import Asked, Copy

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
COPY = Copy(key=("default", "letters"), pod="letters-1", uid="uid", model="m")
ASKED = Asked(victim=COPY, waiter=COPY, gpu="GPU-1", at=NOW)


def test_asks_are_as_old_as_they_are_whatever_the_wall_clock_says() -> None:
    ask = _Sent(ASKED, at=100.0, ended=103.0)
    for wall in (NOW, NOW - timedelta(hours=1), NOW + timedelta(days=1)):
        seen = ask.at_time(wall, 110.0)
        assert seen.ended is not None
        assert (wall - seen.at, wall - seen.ended) == (timedelta(seconds=10), timedelta(seconds=7))
    assert _Sent(ASKED, at=100.0).at_time(NOW, 110.0).ended is None
