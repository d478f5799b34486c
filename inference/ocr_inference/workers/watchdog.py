"""Timer that runs out when nothing has fed it for a time, counted while this process runs.

A machine that is suspended, a container that is frozen, a process that is stopped: their clocks may go on, and after
them a plain timer would run out at once, though the work that it watches had no time either. So time is counted in
steps, and a step that took long counts as two.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

STEPS: Final = 20
"""Steps in which a limit is counted: it runs out late by one of them at most."""


def counted(step: float, passed: float) -> float:
    """Return the seconds to count after a step that was to take `step` seconds and took `passed`."""
    return min(passed, 2 * step)


class Timer(Protocol):
    def cancel(self) -> None: ...


class Loop(Protocol):
    """Event loop, as far as it is needed."""

    def time(self) -> float: ...
    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer: ...


class Watchdog:
    """Runs from the start on; call it on the event loop."""

    def __init__(self, seconds: float, expire: Callable[[float], None], loop: Loop | None = None) -> None:
        """Start; `expire` is called once, with the limit, when it has run out."""
        self._loop: Loop = loop or asyncio.get_running_loop()
        self._expire = expire
        self._timer: Timer | None = None
        self.feed(seconds)

    def feed(self, seconds: float) -> None:
        """Start again from nothing, with this limit."""
        self._counted = 0.0
        self.go_on(seconds)

    def go_on(self, seconds: float) -> None:
        """Count on, to another limit."""
        self.stop()
        self._seconds = seconds
        self._wait()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        self._began = self._loop.time()
        self._timer = self._loop.call_later(self._seconds / STEPS, self._step)

    def _step(self) -> None:
        self._counted += counted(self._seconds / STEPS, self._loop.time() - self._began)
        if self._counted < self._seconds:
            self._wait()
        else:
            self._timer = None
            self._expire(self._seconds)
