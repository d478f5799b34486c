"""The watchdog by a clock of the test's: when it runs out, and that time in which nothing ran doesn't count."""

import heapq
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.workers.watchdog import STEPS, Watchdog


class Timer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """What a watchdog needs of an event loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, Timer, Callable[[], None]]] = []
        self._numbers = 0

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer, self._numbers = Timer(), self._numbers + 1
        heapq.heappush(self._timers, (self.now + delay, self._numbers, timer, callback))
        return timer

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            at, _, timer, callback = heapq.heappop(self._timers)
            self.now = max(self.now, at)
            if not timer.cancelled:
                callback()
        self.now = end

    def jump(self, seconds: float) -> None:
        """The clock goes on, and nothing runs."""
        self.now += seconds


def test_it_runs_out_once_after_its_time() -> None:
    clock, ends = Clock(), list[float]()
    Watchdog(60.0, ends.append, clock)
    clock.run(59)
    assert ends == []
    clock.run(4)
    assert ends == [60.0]
    clock.run(1000)
    assert ends == [60.0]


def test_one_that_is_fed_or_stopped_does_not_run_out() -> None:
    clock, ends = Clock(), list[float]()
    watchdog = Watchdog(60.0, ends.append, clock)
    for _ in range(100):
        clock.run(50)
        watchdog.feed(60.0)
    watchdog.stop()
    clock.run(1000)
    assert ends == []
    watchdog.feed(10.0)
    clock.run(11)
    assert ends == [10.0]


def test_a_longer_limit_counts_on() -> None:
    clock, ends = Clock(), list[float]()
    watchdog = Watchdog(15.0, ends.append, clock)
    clock.run(16)
    assert ends == [15.0]
    watchdog.go_on(120.0)
    clock.run(100)
    assert ends == [15.0]
    clock.run(12)
    assert ends == [15.0, 120.0]


@given(st.floats(0.1, 5000), st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1e6)), max_size=10))
def test_a_suspended_machine_costs_two_steps_at_most(
    limit: float, suspensions: list[tuple[float, float]]
) -> None:
    clock, ends, ran = Clock(), list[float](), 0.0
    Watchdog(limit, ends.append, clock)
    for part, seconds in suspensions:
        share = part * limit / 10
        clock.run(share)
        ran += share
        clock.jump(seconds)
        if ran + 2 * limit / STEPS * (len(suspensions) + 1) < limit:
            assert ends == []
    clock.run(limit * 1.2)
    assert ends == [limit]
