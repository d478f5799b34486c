"""Times of the scheduler's clock, as the wall clock has them.

The scheduler counts by a monotonic clock. A wall clock that is set, by NTP or by a person, moves no timer. While a
machine is suspended that clock stands still, so idle timers, deadlines and limits don't run either: a model is as warm
after it as before, and nothing is late at once. (`CLOCK_BOOTTIME` would count on, and every model would leave the GPU
in the moment in which its user comes back.)

Observers read Unix time: a time of the scheduler plus the distance of the clocks. Where that has changed by a step, all
times are written anew; small changes, such as NTP's slow corrections, would only make every observer read the same
state again. After a suspension earlier times come out later by its length, as if nothing had been in between.
"""

from collections.abc import Callable
from typing import Final

STEP_SECONDS: Final = 1.0
"""Least change of the distance that counts."""
UNSURE_SECONDS: Final = 0.1
"""Time between two readings of the clocks from which they say nothing of their distance: the process was held up."""
CHECK_SECONDS: Final = 10.0
"""Time between two looks at it while nothing happens."""


class WallClock:
    """Distance between the two clocks."""

    def __init__(self, now: Callable[[], float], wall: Callable[[], float]) -> None:
        self._now = now
        self._wall = wall
        self.epoch = wall() - now()
        """Unix time when the scheduler's clock was 0."""

    def check(self) -> bool:
        """Measure the distance again; return whether it has changed by a step."""
        before, wall, after = self._now(), self._wall(), self._now()
        if after - before > UNSURE_SECONDS:
            return False
        epoch = wall - before
        stepped = abs(epoch - self.epoch) >= STEP_SECONDS
        if stepped:
            self.epoch = epoch
        return stepped
