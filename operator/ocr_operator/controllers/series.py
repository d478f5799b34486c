"""Metrics with the names of resources, made of what is known at the moment of a scrape."""

from collections.abc import Callable, Iterable, Iterator
from heapq import nsmallest

from ocr_operator.controllers.cluster_state import ClusterState
from ocr_operator.decide import status
from ocr_operator.metrics import Metrics, Sample
from ocr_operator.resources.observed import Pod
from ocr_wire.state import PodState


class Series:
    """Those of the first `limit` resources by namespace and name, so that the same ones have them at every scrape.

    Only of the replica that works: it alone hears the pods, and two would say the same twice.
    """

    def __init__(
        self,
        cluster: ClusterState,
        heard: Callable[[Pod], PodState | None],
        *,
        limit: int,
        works: Callable[[], bool],
    ) -> None:
        self._cluster = cluster
        self._heard = heard
        self._limit = limit
        self._works = works

    def expose(self, metrics: Metrics) -> None:
        """Have scrapes read it."""
        metrics.resource_series.read = self._read
        metrics.resource_series.omitted = self._omitted

    def _read(self) -> Iterator[tuple[str, str, Iterable[Sample]]]:
        if not self._works():
            return
        for key in nsmallest(self._limit, self._cluster.keys()):
            body = self._cluster.resource(key)
            if body is not None:
                yield *key, status.series(body, self._cluster.pods_of(key), self._heard)

    def _omitted(self) -> int:
        return max(0, len(self._cluster.resources) - self._limit) if self._works() else 0
