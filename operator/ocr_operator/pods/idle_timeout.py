"""The time that a stream may be silent, counted fairly: a loop that was held up has not heard what is waiting for it.

`asyncio.timeout` alone ends a stream as soon as its time is over. After a loop was held up for two seconds, by a
thousand resources at once or by a busy machine, that would be all streams together whose heartbeat came meanwhile:
timers run before what was received is handed out. Each of them is then connected anew and changes a status, which holds
up the loop for longer.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final, Protocol

LATE_SECONDS: Final = 0.25
"""A timer that comes so late was held up."""
STEPS: Final = 48
"""Of the time: timers fall together on one of so many, so that a thousand streams don't wake the loop one by one."""
CATCH_UP_SECONDS: Final = 1.0
"""For what was received meanwhile to be handed out."""


class Timers(Protocol):
    """The part of an event loop that is used here."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle: ...


class IdleTimeout:
    """Calls `expire` with the time once nothing was `heard` for so many seconds. A word costs no timer: it only moves
    the end.
    """

    __slots__ = ("_end", "_expire", "_loop", "_seconds", "_spared", "_timer")

    def __init__(self, loop: Timers, seconds: float, expire: Callable[[float], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._expire = expire
        self._spared = False
        """It was over once already, by a timer that was late."""
        self._end = loop.time() + seconds
        self._timer = self._set(self._end)

    def heard(self) -> None:
        self._end = self._loop.time() + self._seconds
        self._spared = False

    def close(self) -> None:
        self._timer.cancel()

    def _set(self, when: float) -> asyncio.TimerHandle:
        step = self._seconds / STEPS
        return self._loop.call_at(math.ceil(when / step) * step, self._look)

    def _look(self) -> None:
        now, again = self._loop.time(), self._end
        if again <= now:
            if self._spared or now - self._timer.when() < LATE_SECONDS:
                self._expire(now)
                return
            self._spared, again = True, now + CATCH_UP_SECONDS
        self._timer = self._set(again)
