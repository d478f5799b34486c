"""Whether a stream counts as dead, by a clock that the test turns."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ocr_operator.pods.idle_timeout import CATCH_UP_SECONDS, LATE_SECONDS, STEPS, IdleTimeout


class Clock:
    """Timers that run when the test says so, be it late."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[asyncio.TimerHandle] = []
        self._loop = asyncio.new_event_loop()
        self._loop.close()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        self.timers.append(asyncio.TimerHandle(when, callback, args, self._loop))
        return self.timers[-1]

    def run(self, now: float) -> None:
        """Run all timers that are due by then."""
        self.now = now
        due = [each for each in self.timers if each.when() <= now]
        self.timers = [each for each in self.timers if each.when() > now]
        for each in due:
            each._run()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def expired() -> list[float]:
    return []


@pytest.fixture
def idle_timeout(clock: Clock, expired: list[float]) -> IdleTimeout:
    return IdleTimeout(clock, 12.0, expired.append)


def test_expires_after_its_time_and_once(
    idle_timeout: IdleTimeout, clock: Clock, expired: list[float]
) -> None:
    clock.run(111.9)
    assert not expired
    clock.run(112.0)
    clock.run(200.0)
    assert expired == [112.0]


def test_each_word_moves_the_end_and_sets_no_timer(
    idle_timeout: IdleTimeout, clock: Clock, expired: list[float]
) -> None:
    for _ in range(100):
        clock.now += 0.1
        idle_timeout.heard()
    assert len(clock.timers) == 1
    clock.run(112.0)
    clock.run(121.9)
    assert not expired
    clock.run(122.0 + LATE_SECONDS / 2)
    assert len(expired) == 1


def test_what_waited_while_the_loop_was_held_up_is_heard_first(
    idle_timeout: IdleTimeout, clock: Clock, expired: list[float]
) -> None:
    clock.run(130.0)  # the loop was held up, and timers run before what was received
    idle_timeout.heard()
    clock.run(130.0 + CATCH_UP_SECONDS)
    assert not expired
    clock.run(142.0)
    assert expired == [142.0]


def test_a_dead_stream_ends_though_the_loop_is_always_late(
    idle_timeout: IdleTimeout, clock: Clock, expired: list[float]
) -> None:
    clock.run(130.0)
    clock.run(150.0)
    assert expired == [150.0]


def test_many_streams_wake_the_loop_a_few_times(clock: Clock, expired: list[float]) -> None:
    for _ in range(1000):
        IdleTimeout(clock, 12.0, expired.append)
        clock.now += 0.012
    assert len({each.when() for each in clock.timers}) <= STEPS + 1


def test_none_expires_after_it_was_closed(idle_timeout: IdleTimeout, clock: Clock) -> None:
    idle_timeout.close()
    assert all(each.cancelled() for each in clock.timers)
