"""The distance of the clocks, with clocks of the test's."""

from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.manager.clock import STEP_SECONDS, UNSURE_SECONDS, WallClock


class Clocks:
    def __init__(self) -> None:
        self.now = 100.0
        self.wall = 1_700_000_000.0
        self.held_up = 0.0
        """Seconds that pass while the wall clock is read."""

    def read_now(self) -> float:
        return self.now

    def read_wall(self) -> float:
        self.now += self.held_up
        return self.wall

    def run(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


def test_a_clock_that_is_set_moves_times_once() -> None:
    clocks = Clocks()
    clock = WallClock(clocks.read_now, clocks.read_wall)
    then = clocks.now
    clocks.run(50)
    assert not clock.check()
    clocks.wall += 3600
    assert clock.check()
    assert clock.epoch + then == clocks.wall - 50, "50 seconds ago, by the clock as it is set now"
    clocks.run(50)
    assert not clock.check()


def test_a_suspension_does_not_count() -> None:
    clocks = Clocks()
    clock = WallClock(clocks.read_now, clocks.read_wall)
    idle_since = clocks.now
    clocks.run(10)
    clocks.wall += 8 * 3600  # the monotonic clock stands still
    assert clock.check()
    assert clock.epoch + idle_since == clocks.wall - 10, "as idle as before"


@given(st.lists(st.floats(-0.1, 0.1), max_size=100))
def test_slow_corrections_change_nothing_until_they_are_a_step(corrections: list[float]) -> None:
    clocks = Clocks()
    clock = WallClock(clocks.read_now, clocks.read_wall)
    for correction in corrections:
        clocks.run(10)
        clocks.wall += correction
        before = clock.epoch
        changed = clock.check()
        assert changed is (clock.epoch != before)
        assert abs(clock.epoch - (clocks.wall - clocks.now)) < STEP_SECONDS


def test_a_process_that_is_held_up_while_it_reads_the_clocks_learns_nothing() -> None:
    clocks = Clocks()
    clock = WallClock(clocks.read_now, clocks.read_wall)
    clocks.held_up = 2 * UNSURE_SECONDS + STEP_SECONDS
    assert not clock.check()
