"""What passes over resources act with, and what they remember from one to the next."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ocr_operator.controllers.children import Children
from ocr_operator.controllers.cluster_state import ClusterState
from ocr_operator.controllers.reports import Report, Reporter
from ocr_operator.decide import routing
from ocr_operator.decide.placement import unschedulable
from ocr_operator.gpuload.sources import GpuSources
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.pods.client import PodClient
from ocr_operator.resources.observed import Key, Pod

CONCURRENT_PATCHES: Final = 32
"""Of pods, per resource: 500 pods are stamped in about half a second without a burst on the API server."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The parts that all passes share."""

    kube: api.Kube
    cluster: ClusterState
    pods: PodClient
    gpus: GpuSources
    children: Children
    reporter: Reporter
    metrics: Metrics
    forget: Callable[[Key], None]
    """Takes a resource that is gone out of the queue."""
    now: Callable[[], datetime]
    time: Callable[[], float]


@dataclass(slots=True)
class ResourceCache:
    """Things that one resource's passes remember of each other; all of it can be lost. Written only by the passes."""

    uid: str
    report: Report = field(default_factory=Report)
    applied: tuple[int, int] | None = None
    """The last generation and revision that were reported as applied: urgent news, once each."""
    routing_state: routing.RoutingState = field(default_factory=routing.RoutingState)
    unschedulable_history: unschedulable.UnschedulableHistory = field(
        default_factory=unschedulable.UnschedulableHistory
    )


class PodWriter:
    """Patches of pods within one pass."""

    def __init__(self, kube: api.Kube, cluster: ClusterState) -> None:
        self._kube = kube
        self._cluster = cluster
        self.first_error: api.KubeError | None = None
        """The first error of a write that the other steps don't depend on; raised at the end of the pass."""

    async def patch(self, pod: Pod, operations: Sequence[api.Json]) -> bool:
        """Patch a pod; False if it is gone or changed, and then its change causes the next pass."""
        try:
            answer = await self._kube.patch(api.Ref(api.POD, pod.namespace, pod.name), operations)
        except (api.NotFound, api.Conflict) as error:
            log.info("pod changed meanwhile: %s", error)
            return False
        self._cluster.written(answer)
        return True

    async def together(self, work: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """Run all and return their answers, None for one that failed: its API error doesn't keep the others."""
        slots = asyncio.Semaphore(CONCURRENT_PATCHES)

        async def one(each: Coroutine[Any, Any, Any]) -> Any:
            async with slots:
                try:
                    return await each
                except api.KubeError as error:
                    self.first_error = self.first_error or error

        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(one(each)) for each in work]
        return [each.result() for each in started]
