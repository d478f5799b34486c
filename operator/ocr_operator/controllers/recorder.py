"""Kubernetes Events about a resource: what `kubectl describe` shows, and nothing depends on.

Deduplicated by object, type, reason and message: a repetition raises the count of the Event that is there. Each
object has a budget, as in client-go: a flapping pod must not flood the API server.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ocr_operator.decide.status import Event
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.pods.rate_limiter import RateLimiter
from ocr_operator.settings import FIELD_MANAGER
from ocr_wire import names
from ocr_wire.redaction import redact

BURST: Final = 25
REFILL_SECONDS: Final = 60.0
"""Seconds after which an object that used up its burst may say one thing more."""
QUIET_SECONDS: Final = 60.0
"""The same Event isn't written again sooner."""
MAX_REMEMBERED: Final = 10_000
MAX_NOTE: Final = 1024
"""The API server refuses longer messages."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Seen:
    count: int
    first: datetime
    last: datetime
    at: float
    """When it was last, in monotonic seconds."""


class Recorder:
    """Posts Events; a failure of whatever kind costs the Event, never the pass."""

    def __init__(
        self,
        kube: api.Kube,
        *,
        now: Callable[[], datetime],
        time: Callable[[], float],
        metrics: Metrics,
        instance: str,
    ) -> None:
        """Prepare; `now` is what Events bear, `time` (monotonic seconds) is what they are rationed by: a wall clock
        that is set back would silence them."""
        self._kube = kube
        self._now = now
        self._time = time
        self._metrics = metrics
        self._instance = instance
        self._seen: dict[str, _Seen] = {}
        self._budgets: dict[str, RateLimiter] = {}

    async def record(self, body: api.Json, event: Event) -> None:
        """`body` is the object that the Event is about."""
        meta, now, at = body["metadata"], self._now(), self._time()
        name = f"{meta['name']}.{_digest(meta['uid'], event)}"
        seen = self._seen.get(name)
        if seen is not None and at - seen.at < QUIET_SECONDS:
            return
        if not self._spend(meta["uid"], at):
            self._metrics.events.labels("dropped").inc()
            return
        seen = _Seen(seen.count + 1, seen.first, now, at) if seen else _Seen(1, now, now, at)
        self._remember(name, seen)
        try:
            await self._write(body, name, event, seen)
        except api.KubeError as error:
            self._metrics.events.labels("failed").inc()
            log.warning("event not written reason=%s error=%s", event.reason, error)
        except Exception:
            self._metrics.events.labels("failed").inc()
            log.exception("event not written reason=%s", event.reason)
        else:
            self._metrics.events.labels("written").inc()

    async def _write(self, body: api.Json, name: str, event: Event, seen: _Seen) -> None:
        manifest = self._manifest(body, name, event, seen)
        if seen.count == 1:
            try:
                await self._kube.create(manifest)
            except api.Conflict:  # written by the operator's process before this one
                seen.count = 2
            else:
                return
        try:
            await self._kube.patch(
                api.ref_of(manifest),
                [
                    {"op": "add", "path": "/count", "value": seen.count},
                    {"op": "add", "path": "/lastTimestamp", "value": _stamp(seen.last)},
                ],
            )
        except api.NotFound:  # Events live for an hour
            await self._kube.create(manifest)

    def _manifest(self, body: api.Json, name: str, event: Event, seen: _Seen) -> dict[str, Any]:
        meta = body["metadata"]
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": meta["namespace"]},
            "involvedObject": {
                "apiVersion": body.get("apiVersion", names.API_VERSION),
                "kind": body.get("kind", names.KIND),
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
                "resourceVersion": meta.get("resourceVersion", ""),
            },
            "type": event.type,
            "reason": event.reason,
            "message": redact(event.message)[:MAX_NOTE],
            "count": seen.count,
            "firstTimestamp": _stamp(seen.first),
            "lastTimestamp": _stamp(seen.last),
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "reportingInstance": self._instance[:128],
        }

    def _remember(self, name: str, seen: _Seen) -> None:
        self._seen.pop(name, None)
        self._seen[name] = seen
        while len(self._seen) > MAX_REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def _spend(self, uid: str, at: float) -> bool:
        """A token bucket per object."""
        budget = self._budgets.pop(uid, None) or RateLimiter(rate=1 / REFILL_SECONDS, burst=BURST)
        self._budgets[uid], wait = budget.take(at)
        while len(self._budgets) > MAX_REMEMBERED:
            del self._budgets[next(iter(self._budgets))]
        return wait == 0.0


def _digest(uid: str, event: Event) -> str:
    text = f"{uid}\n{event.type}\n{event.reason}\n{event.message}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
