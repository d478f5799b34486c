"""What passes over resources act with, and what they remember from one to the next."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ocr_operator.controllers.children import Children
from ocr_operator.controllers.cluster_state import ClusterState
from ocr_operator.controllers.reports import Report, Reporter
from ocr_operator.controllers.wave import Wave
from ocr_operator.decide import routing, status
from ocr_operator.decide.ownership import Whose
from ocr_operator.decide.placement import failed, unschedulable
from ocr_operator.gpuload.sources import GpuSources
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.pods.client import PodClient
from ocr_operator.pods.rate_limiter import RateLimiter
from ocr_operator.resources.live_settings import Issued
from ocr_operator.resources.observed import Key, Pod
from ocr_operator.resources.reading import mapping

CONCURRENT_PATCHES: Final = 32
"""Of pods, per resource: 500 pods are stamped in about half a second without a burst on the API server."""

FIRST_WORDS_SECONDS: Final = 1.0
"""For a pod that is ready to say how it is: its stream is opened at once, and tells all in the first message."""
START_SECONDS: Final = 3.0
"""The same after a start of the operator, when all pods have something to say."""

STAMPS: Final = RateLimiter(rate=1, burst=5)
"""Of rounds in which all pods of a resource are stamped with newer live settings, after they have got them by a push:
a change of a person is stamped at once, and a resource that changes all the time once a second, with its last values.
"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The parts that all passes share."""

    kube: api.Kube
    cluster: ClusterState
    pods: PodClient
    gpus: GpuSources
    children: Children
    wave: Wave
    reporter: Reporter
    metrics: Metrics
    forget: Callable[[Key], None]
    """Takes a resource that is gone out of the queue."""
    whose: Callable[[str], Whose]
    """Says whose a namespace is: nothing is written in another operator's."""
    may_write: Callable[[str], bool]
    """Says whether the Leases let a write in a namespace begin now."""
    leave_to_scheduler_seconds: int
    """After so long a pod that finds no device is the scheduler's; -1 is never."""
    lateness: Callable[[], float]
    """Says by how many seconds passes begin late at present."""
    many_pushes: Callable[[], bool]
    """Says whether pushes of live settings wait for each other at present."""
    now: Callable[[], datetime]
    time: Callable[[], float]

    def new_cache(self, body: api.Json) -> "ResourceCache":
        """Return what passes remember of a resource at the first of them; its status may be another process's."""
        before = mapping(body, "status")
        return ResourceCache(
            body["metadata"]["uid"],
            applied=status.applied(before),
            hold_until=self.time() + START_SECONDS if before.get("pods") else None,
            secret_doubted=self.time(),  # it is read in this very pass
        )


@dataclass(slots=True)
class ResourceCache:
    """Things that one resource's passes remember of each other; all of it can be lost. Written only by the passes."""

    uid: str
    report: Report = field(default_factory=Report)
    applied: tuple[int, int] | None = None
    """The last generation and revision that were reported as applied: urgent news, once each."""
    issued: Issued | None = None
    """Revisions of live settings that this process has handed out, the status having reserved them."""
    stamps: RateLimiter = STAMPS
    stamps_due: float | None = None
    """When stamps and status come after a raised revision of live settings, at the latest; None where they came."""
    hold_until: float | None = None
    """Until then the status waits for the first words of pods; None while there is nothing to wait for."""
    unheard: frozenset[str] = frozenset()
    """UIDs of pods that were waited for in vain."""
    secret_doubted: float = float("-inf")
    """When the Secret was last read because of a hint that it is another one by now."""
    starting_since: float | None = None
    """Since when passes see a pod on a node without an address; None while there is none."""
    removed_override: str = ""
    """The last live override that was removed because it had ended; it isn't removed twice."""
    routing_state: routing.RoutingState = field(default_factory=routing.RoutingState)
    unschedulable_history: unschedulable.UnschedulableHistory = field(
        default_factory=unschedulable.UnschedulableHistory
    )
    warnings: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Pod UID → when its Events were read, and what its kubelet warns of; of pods that take long to start."""
    failure_history: failed.FailureHistory = field(default_factory=dict)

    def first_words(self, pods: Sequence[status.PodSeen], time: float) -> float | None:
        """Return for how long the status stays as it is: pods that became ready weren't heard yet, and what they are
        about to say is better than that nothing is known. None where nothing is waited for.
        """
        silent = {
            each.pod.uid for each in pods if each.state is None and each.pod.ready and not each.pod.gated
        }
        if silent <= self.unheard:
            self.hold_until = None
            return None
        if self.hold_until is None:
            self.hold_until = time + FIRST_WORDS_SECONDS
        if self.hold_until > time:
            return self.hold_until - time
        self.hold_until, self.unheard = None, frozenset(silent)
        return None


Work = Callable[[], Awaitable[Any]]
"""Begins something when it is called: a coroutine that a cancelled pass never comes to is a warning of Python's."""


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
            if isinstance(error, api.NotFound):
                self._cluster.pods.gone((pod.namespace, pod.name), pod.uid)
            return False
        self._cluster.answered(answer)
        return True

    async def together(self, work: Sequence[Work]) -> list[Any]:
        """Run all and return their answers, None for one that failed: its API error doesn't keep the others."""
        slots = asyncio.Semaphore(CONCURRENT_PATCHES)

        async def one(each: Work) -> Any:
            async with slots:
                try:
                    return await each()
                except api.KubeError as error:
                    self.first_error = self.first_error or error

        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(one(each)) for each in work]
        return [each.result() for each in started]
