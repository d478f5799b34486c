"""One working operator among its replicas: takes, renews and gives back the Lease. The one owner of it.

A replica that waits has its watches up, so it begins within a moment. One whose renewals aren't answered begins no
write after 10 s, and goes on by itself when they are again; one that finds another's name in the Lease ends, and
Kubernetes starts it afresh.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from ocr_operator.controllers import leases
from ocr_operator.decide import leadership
from ocr_operator.decide.leadership import TIMING
from ocr_operator.decide.leases import Sighting, Take, Wait, missing
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics

ANSWER_SECONDS: Final = 5.0
"""A request for the Lease without an answer for so long is tried again."""
GIVE_BACK_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


class LeadershipLost(Exception):
    """Another replica works from now on: what this one knew of promises is old."""


class Election:
    """`run` until cancelled, then `give_back`."""

    def __init__(
        self,
        kube: api.Kube,
        *,
        lease: api.Ref | None,
        replica: str,
        metrics: Metrics,
        now: Callable[[], datetime],
        time: Callable[[], float],
    ) -> None:
        """Prepare; without a `lease` this replica is the only one. `replica` is the pod's name. `time` is monotonic."""
        self._kube = kube
        self._lease = lease
        self._replica = replica
        self._now = now
        self._time = time
        self._seen: Sighting | None = None
        self._valid_until = self._held_until = float("-inf")
        """Until the second no other may have begun; until the first, nothing hints at another either."""
        self._said = ""
        self.begun = asyncio.Event()
        """Set when this replica may begin its work, and for ever."""
        self.holder = ""
        """The other replica that works."""
        metrics.leading.set_function(lambda: self.seconds_left() != 0.0)

    def seconds_left(self, _namespace: str = "") -> float | None:
        """Say for how long a write that begins now may take: 0 where none may begin, None where nothing limits it."""
        if self._lease is None:
            return None
        now = self._time()
        return self._valid_until + TIMING.duration - TIMING.valid - now if now < self._valid_until else 0.0

    def note(self) -> str:
        """Say which replica works, where this one waits."""
        return f"stands by: {self.holder} works" if self.holder else ""

    async def run(self) -> None:
        if self._lease is None:
            self.begun.set()
            return
        while True:
            wait = await self.look(self._lease)
            await asyncio.sleep(wait)

    async def look(self, lease: api.Ref) -> float:
        """Create, renew or take the Lease, or wait; returns the seconds until the next look."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                wait = await self._claim(lease)
        except (api.KubeError, TimeoutError) as error:
            if isinstance(error, api.Conflict | api.NotFound):
                self._valid_until = float("-inf")  # another was faster, or it was deleted: it is read again
            self._say(f"the Lease {lease.name} can't be had: {str(error) or 'no answer'}")
            return leadership.LOOK_SECONDS
        return wait

    async def give_back(self) -> None:
        """Let the next replica begin at once. Call it when nothing of this one writes anymore."""
        if self._lease is None or self.seconds_left() == 0.0 or self._seen is None:
            return
        spec = leadership.given_back(self._seen, self._now())
        self._valid_until = self._held_until = float("-inf")
        with contextlib.suppress(api.KubeError, TimeoutError):
            async with asyncio.timeout(GIVE_BACK_SECONDS):
                await leases.write(self._kube, self._lease, Take(self._seen.version, ours=True), spec)

    async def _claim(self, lease: api.Ref) -> float:
        began = self._time()
        if began >= self._valid_until or self._seen is None:
            self._seen = await self._read(lease)
        step = leadership.decide(self._replica, self._seen, self._time())
        if self.begun.is_set() and leadership.is_lost(step, self._seen):
            self._valid_until = float("-inf")
            other = self._seen.holder if self._seen else ""
            raise LeadershipLost(f"{other or 'another replica'} has worked meanwhile")
        if isinstance(step, Wait):
            self.holder, self._valid_until, self._held_until = step.holder, float("-inf"), float("-inf")
            gone = (
                ", or did until its Lease was deleted"
                if self._seen is not None and self._seen.missing
                else ""
            )
            self._say(f"{self._replica} stands by: {step.holder} works{gone}")
            return min(step.seconds, leadership.LOOK_SECONDS)
        spec = leadership.spec(self._replica, self._seen, self._now())
        answer = await leases.write(self._kube, lease, step, spec)
        self._seen = leadership.sight(None, answer, self._time())
        self._valid_until, self._held_until = began + TIMING.valid, began + TIMING.duration
        self.holder = ""
        if not self.begun.is_set():
            self._say(f"{self._replica} works from now on")
            self.begun.set()
        return TIMING.renew

    async def _read(self, lease: api.Ref) -> Sighting | None:
        try:
            found = await self._kube.get(lease)
        except api.NotFound:
            # Written again at once by the one that holds it; another may work by it, for as long as it lasts.
            return None if self._time() < self._held_until else missing(self._seen, self._time())
        return leadership.sight(self._seen, found, self._time())

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.info("%s", text)
