"""One pod as the operator follows it: what it should run with, what it says, and what it may still cause."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from ocr_operator.pods.rate_limiter import RateLimiter
from ocr_operator.pods.unreachable import Unreachable
from ocr_operator.pods.wire import Target
from ocr_wire.live_settings import Envelope
from ocr_wire.state import PodState

URGENT: Final = RateLimiter(rate=2, burst=20)
"""Of changes of a pod that are urgent; more than these wait for their turn like others. That it runs with what it
should is urgent once for each push that it needed, whatever came before: so often only a writer of settings can
make it.
"""
PUSHED: Final = RateLimiter(rate=2, burst=30)
"""Of pushes of the same settings to a pod: one that takes them and says again that it hasn't gets no more. The first
push of other settings takes none of these: how often settings change isn't up to the pod.
"""


@dataclass(slots=True, eq=False)
class Link:
    """Written only by the link's own tasks and by `PodClient.follow`, all in one event loop."""

    target: Target
    wanted: Envelope
    token: str = field(repr=False)
    changed: asyncio.Event | None = None
    """Set when something that the pushing task looks at is new; None while there is nothing to push, nor a task."""
    queue_threshold: int = 0
    """More waiting requests than these, and the awake set may have to grow."""
    over_threshold: bool = False
    """True until no more than half of that wait: each crossing is news once."""
    state: PodState | Unreachable | None = None
    acked: Envelope | None = None
    """What a push was answered with on this connection: newer than a state that was already on its way."""
    answered: Envelope | None = None
    """The envelope that the pod last took, whatever it echoes."""
    tried: Envelope | None = None
    """The envelope that was last pushed, whatever came of it."""
    echoed: Envelope | None = None
    """The envelope whose echo was urgent news already."""
    push_error: str = ""
    token_refused: bool = False
    """By the last push."""
    urgent: RateLimiter = URGENT
    pushed: RateLimiter = PUSHED
    stream: asyncio.Task[None] | None = None
    pushing: asyncio.Task[None] | None = None

    def due(self) -> bool:
        """Return whether the pod runs with other values than it should, or with an older generation's stamp."""
        if not isinstance(self.state, PodState):
            return False
        echo, wanted = self.state.settings, self.wanted
        if (echo.revision, echo.hash) != (wanted.revision, wanted.hash):
            return True
        return echo.generation < wanted.generation and self.answered != wanted

    def first_echo(self, state: PodState) -> bool:
        """Return whether the pod says for the first time that it runs with the settings that it should."""
        echo, wanted = state.settings, self.wanted
        if self.echoed == wanted or (echo.revision, echo.hash) != (wanted.revision, wanted.hash):
            return False
        self.echoed = wanted
        return True

    def may_hurry(self, now: float) -> bool:
        """Return whether an urgent change of the pod may still be urgent for others."""
        self.urgent, wait = self.urgent.take(now)
        return wait == 0.0
