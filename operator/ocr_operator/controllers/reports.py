"""The one write of a status, and the Events that follow from it."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ocr_operator.controllers.cluster_state import ClusterState
from ocr_operator.controllers.recorder import Recorder
from ocr_operator.controllers.workqueue import AtLatest
from ocr_operator.decide import status
from ocr_operator.decide.placement import Placement
from ocr_operator.decide.status import Edited, Event
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.pods.rate_limiter import RateLimiter
from ocr_operator.resources.reading import mapping

STATUS_WRITES: Final = RateLimiter(rate=1, burst=5)
"""Of writes of a status that only pods caused: a load or an offload is two changes, and is shown as it goes on; pods
that change all the time get one a second. What a change of the spec leads to isn't held back.
"""
STEP_SECONDS: Final = 1.0
"""For so long a step of a resource that comes up waits for the next one, if no condition has turned. Where passes are
later than that, so is the next step: that is added, also where one has turned. One that has turned waits anew, also
behind one that waits already: the pass that brings it has just begun, so the next one is as late again.
"""
MAX_STEP_SECONDS: Final = 30.0
MAX_NEWS: Final = 32
"""Events that wait for the end of a pass which keeps failing; the oldest go first."""
MAX_MOVES: Final = 1000
"""Sentences kept for the next Event, which has the last one and their number."""
SET_BACK_SECONDS: Final = 600.0
"""After so long it is said again that the same fields of a child are set back."""
UNKNOWN_RESERVED: Final = ".status.liveSettings.reserved: field not declared in schema"
"""What the API server says of a status with reserved revisions by a definition that has no such field."""
RESERVE_AGAIN_SECONDS: Final = 600.0
"""For so long after it said so statuses are written without them at once; then one more try finds out whether the
definition is a newer one by now.
"""
MOVES_BURST: Final = 5
MOVES_SPACING_SECONDS: Final = 120.0
"""Of Events about an awake set, which may change all day: a few at once, then half of what the recorder grants."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Report:
    """Things that were written and recorded of one resource, and what is still to be; all of it can be lost."""

    writes: RateLimiter = STATUS_WRITES
    steps_due: dict[status.Step, float] = field(default_factory=dict)
    """Kind of a step that no status has yet → when it is to be written."""
    placements: list[Placement] = field(default_factory=list)
    """Made, but in no written status yet."""
    moves: list[str] = field(default_factory=list)
    """Changes of the awake set that no Event has yet."""
    moves_reported: list[float] = field(default_factory=list)
    """When the last ones were recorded."""
    news: list[Event] = field(default_factory=list)
    """In a written status, but not yet recorded as Events."""

    edits: Edited = field(default_factory=Edited)
    """What was last recorded of fields of children that others have set."""
    set_back: float = float("-inf")
    """When an Event last said so of fields that were set back."""

    def edited(self, found: Edited, now: float) -> None:
        """Note the Events of what others have set in children, be it left or set back: once, for a tool may insist, or
        a webhook change each write.
        """
        if found.message not in ("", self.edits.message):
            self.news.append(Event(type="Warning", reason="ChildEdited", message=found.message))
        again = now - self.set_back >= SET_BACK_SECONDS
        if found.set_back and (again or found.set_back != self.edits.set_back):
            self.news.append(Event(type="Warning", reason="ChildSetBack", message=found.set_back))
            self.set_back = now
        self.edits = Edited(found.message, found.set_back or self.edits.set_back)

    def moved(self, sentences: tuple[str, ...]) -> None:
        self.moves = [*self.moves, *sentences][-MAX_MOVES:]

    def take_moves(self, now: float) -> list[str]:
        """Take those that an Event may have now."""
        self.moves_reported = [
            each for each in self.moves_reported if now - each < MOVES_BURST * MOVES_SPACING_SECONDS
        ]
        if not self.moves or len(self.moves_reported) >= MOVES_BURST:
            return []
        self.moves_reported.append(now)
        moves, self.moves = self.moves, []
        return moves


class Reporter:
    """Writes statuses and records Events, for all resources."""

    def __init__(
        self,
        kube: api.Kube,
        cluster: ClusterState,
        recorder: Recorder,
        *,
        metrics: Metrics,
        time: Callable[[], float],
        lateness: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Prepare; `lateness` says by how many seconds passes begin late at present."""
        self._kube = kube
        self._cluster = cluster
        self.recorder = recorder
        self._metrics = metrics
        self._time = time
        self._lateness = lateness
        self._reserves_from = float("-inf")
        """Before, the definition is known to have no reserved revisions."""

    async def write(
        self,
        report: Report,
        body: api.Json,
        after: Mapping[str, Any],
        *,
        urgent: bool,
        announced: tuple[int, int] | None = None,
    ) -> api.Json | float:
        """Write a status that differs and note its Events; returns the resource as it is then, or the seconds to wait
        if it is too early.
        """
        before = mapping(body, "status")
        if after == before:
            return body
        now = self._time()
        writes, early = report.writes.take(now)
        if not urgent:
            early = max(early, self._step_waits(report, status.step(before, after), now))
        if early > 0 and not urgent:
            return early
        ref = api.ref_of(body)
        try:
            answer = await self._apply(ref, before, after, body["metadata"]["resourceVersion"])
        except api.KubeError as error:
            self._metrics.status_writes.labels("failed").inc()
            if isinstance(error, api.Conflict):
                self._cluster.answered(await self._kube.get(ref))
            raise
        report.writes, report.steps_due = writes, {}
        self._metrics.status_writes.labels("written").inc()
        self._cluster.answered(answer)
        reported, report.placements = report.placements, []
        moves = report.take_moves(self._time())
        report.news = (report.news + status.events(before, after, reported, moves, announced))[-MAX_NEWS:]
        return answer

    async def _apply(
        self, ref: api.Ref, before: Mapping[str, Any], after: Mapping[str, Any], version: str
    ) -> api.Json:
        """Write a status, without reserved revisions where the definition is of a version that had none: the API server
        refuses all of a status for a field that it doesn't know. A status that has them shows that it knows the field
        by now: to leave it out would take back what another process has reserved.
        """
        live = mapping(after, "liveSettings")
        if "reserved" not in live:
            return await self._kube.apply_status(ref, after, resource_version=version)
        if self._time() >= self._reserves_from or "reserved" in mapping(before, "liveSettings"):
            try:
                answer = await self._kube.apply_status(ref, after, resource_version=version)
            except api.Refused as error:
                if not error.message.endswith(UNKNOWN_RESERVED):
                    raise
            else:
                self._reserves_from = float("-inf")
                return answer
            self._reserves_from = self._time() + RESERVE_AGAIN_SECONDS
            log.info("the definition of %s is an older one: no revisions are reserved", ref.kind.plural)
        live = {field: value for field, value in live.items() if field != "reserved"}
        return await self._kube.apply_status(ref, {**after, "liveSettings": live}, resource_version=version)

    def _step_waits(self, report: Report, step: status.Step, now: float) -> float:
        """Return the seconds until a step is to be written: none for a turn while little is late. One that waits since
        much was late waits no longer than it would by now.
        """
        late = self._lateness()
        if step == "none" or (step == "turn" and late < STEP_SECONDS):
            return 0.0
        patience = min(MAX_STEP_SECONDS, late + (STEP_SECONDS if step == "word" else 0.0))
        report.steps_due[step] = due = min(report.steps_due.get(step, float("inf")), now + patience)
        left = max(0.0, due - now)
        return left if late < STEP_SECONDS else AtLatest(left)

    async def record_events(self, report: Report, body: api.Json) -> None:
        """Record the Events that the last statuses led to. Comes last, since nothing waits for an Event."""
        ref = api.ref_of(body)
        news, report.news = report.news, []
        for event in news:
            log.info(
                "event %s",
                event.reason,
                extra={"resource": f"{ref.namespace}/{ref.name}", "type": event.type, "text": event.message},
            )
            await self.recorder.record(body, event)
