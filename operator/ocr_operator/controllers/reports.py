"""The one write of a status, and the Events that follow from it."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ocr_operator.controllers.cluster_state import ClusterState
from ocr_operator.controllers.recorder import Recorder
from ocr_operator.decide import status
from ocr_operator.decide.placement import Placement
from ocr_operator.decide.status import Event
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics

STATUS_SPACING_SECONDS: Final = 1.0
"""Between two writes of a status that only pods caused; what a change of the spec leads to isn't held back."""
MAX_NEWS: Final = 32
"""Events that wait for the end of a pass which keeps failing; the oldest go first."""
MAX_MOVES: Final = 1000
"""Sentences kept for the next Event, which has the last one and their number."""
MOVES_BURST: Final = 5
MOVES_SPACING_SECONDS: Final = 120.0
"""Of Events about an awake set, which may change all day: a few at once, then half of what the recorder grants."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Report:
    """Things that were written and recorded of one resource, and what is still to be; all of it can be lost."""

    written: float = float("-inf")
    """When the status was last written."""
    placements: list[Placement] = field(default_factory=list)
    """Made, but in no written status yet."""
    moves: list[str] = field(default_factory=list)
    """Changes of the awake set that no Event has yet."""
    moves_reported: list[float] = field(default_factory=list)
    """When the last ones were recorded."""
    news: list[Event] = field(default_factory=list)
    """In a written status, but not yet recorded as Events."""

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
    ) -> None:
        self._kube = kube
        self._cluster = cluster
        self._recorder = recorder
        self._metrics = metrics
        self._time = time

    async def write(
        self, report: Report, body: api.Json, after: Mapping[str, Any], *, urgent: bool
    ) -> api.Json | float:
        """Write a status that differs and note its Events; returns the resource as it is then, or the seconds to wait
        if it is too early.
        """
        before = body.get("status") or {}
        if after == before:
            return body
        if not urgent and (early := report.written + STATUS_SPACING_SECONDS - self._time()) > 0:
            return early
        ref = api.ref_of(body)
        try:
            answer = await self._kube.apply_status(
                ref, after, resource_version=body["metadata"]["resourceVersion"]
            )
        except api.KubeError as error:
            self._metrics.status_writes.labels("failed").inc()
            if isinstance(error, api.Conflict):
                self._cluster.put_resource(await self._kube.get(ref))
            raise
        report.written = self._time()
        self._metrics.status_writes.labels("written").inc()
        self._cluster.put_resource(answer)
        reported, report.placements = report.placements, []
        moves = report.take_moves(report.written)
        report.news = (report.news + status.events(before, after, reported, moves))[-MAX_NEWS:]
        return answer

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
            await self._recorder.record(body, event)
