"""One pass over one resource: read, decide (elsewhere, purely), act.

Level-based: a pass looks at what is, never at what happened, so it may run at any time, twice, or after a crash
at any point, and ends in the same place. The order within a pass is by what somebody waits for:

1. the revision of live settings, by a write that only succeeds on the resource as we read it;
2. push and stamp them on the pods, which therefore never see a revision that isn't recorded; a pass that raised the
   revision ends with the push, and the next one does the rest;
3. children; 4. placement of gated pods; 5. the status, only if it changed; 6. Events.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from ocr_operator import api, effective, livesettings, names, placement, podwire, spec, status
from ocr_operator.children import Children
from ocr_operator.effective import Effective
from ocr_operator.livesettings import LiveSettings
from ocr_operator.metrics import Metrics
from ocr_operator.observed import Pod, rollout
from ocr_operator.placement import NoFit, Placement
from ocr_operator.podclient import PodClient
from ocr_operator.podstate import PodState
from ocr_operator.recorder import Recorder
from ocr_operator.spec import InvalidSpec, OcrDeployment
from ocr_operator.status import Event, PodSeen, Refusal, Seen
from ocr_operator.wakeups import Key
from ocr_operator.world import World

STATUS_SPACING_SECONDS: Final = 1.0
"""Between two writes of a status that only pods caused; what a change of the spec leads to isn't held back."""
CONCURRENT_PATCHES: Final = 32
"""Of pods, per resource: 500 pods are stamped in about half a second without a burst on the API server."""
PUSH_FIRST_SECONDS: Final = 1.0
"""For so long stamping waits for the answers to a push: a hundred patches at once would hold up what takes effect now.
"""
REFUSED_SECONDS: Final = 30.0
"""After so long children that the API server refused are tried again: a quota may have grown."""
MAX_NEWS: Final = 32
"""Events that wait for the end of a pass which keeps failing; the oldest go first."""
STUCK_SECONDS: Final = 20.0
"""A pod that is pinned to a node which can't take it anymore is replaced after so long."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Memory:
    """What one resource's passes remember of each other; all of it can be lost. Written only by the passes."""

    uid: str
    placements: list[Placement] = field(default_factory=list)
    """Made, but not yet told by a status."""
    news: list[Event] = field(default_factory=list)
    """Told by a status, but not yet as Events."""
    written: float = float("-inf")
    """When the status was last written."""
    applied: tuple[int, int] | None = None
    """The last generation and revision that were told to be applied: the news that somebody waits for, once each.
    """
    stuck: dict[str, float] = field(default_factory=dict)
    """Pod UID → since when it hangs on a node that can't take it."""


class Reconciler:
    """`look` is one pass; the caller sees to it that a resource has one at a time."""

    def __init__(
        self,
        kube: api.Kube,
        world: World,
        pods: PodClient,
        recorder: Recorder,
        *,
        children: Children,
        metrics: Metrics,
        now: Callable[[], datetime],
        time: Callable[[], float],
    ) -> None:
        self._kube = kube
        self._world = world
        self._pods = pods
        self._recorder = recorder
        self._children = children
        self._metrics = metrics
        self._now = now
        self._time = time
        self._memories: dict[Key, _Memory] = {}

    async def look(self, key: Key) -> float | None:
        """Seconds until the next look, None for "when something changes". Raises `api.KubeError`."""
        body = self._world.resource(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self._forget(key)
            return None
        memory = self._memories.get(key)
        if memory is None or memory.uid != body["metadata"]["uid"]:
            self._forget(key)
            memory = self._memories[key] = _Memory(body["metadata"]["uid"])
        resource = spec.parse(body)
        if isinstance(resource, InvalidSpec):
            self._world.stands(key, None)
            await self._write(memory, body, status.stalled(body, resource, self._now()), urgent=True)
            await self._tell(memory, body)
            return None
        settings = effective.of(resource, self._world.policies_of(body), self._now())
        self._world.stands(key, settings.standing)
        return await _Pass(self, memory, resource, settings, body).run()

    def _forget(self, key: Key) -> None:
        self._pods.forget(key)
        if (memory := self._memories.pop(key, None)) is not None:
            self._children.forget(memory.uid)

    async def _write(
        self, memory: _Memory, body: api.Json, after: Mapping[str, Any], *, urgent: bool
    ) -> api.Json | float:
        """Writes a status that differs and notes its Events; the resource as it is then, or the seconds to wait
        if it is too early.
        """
        before = body.get("status") or {}
        if after == before:
            return body
        if not urgent and (early := memory.written + STATUS_SPACING_SECONDS - self._time()) > 0:
            return early
        ref = api.ref_of(body)
        try:
            answer = await self._kube.apply_status(
                ref, after, resource_version=body["metadata"]["resourceVersion"]
            )
        except api.KubeError as error:
            self._metrics.status_writes.labels("failed").inc()
            if isinstance(error, api.Conflict):
                self._world.saw(await self._kube.get(ref))
            raise
        memory.written = self._time()
        self._metrics.status_writes.labels("written").inc()
        self._world.saw(answer)
        told, memory.placements = memory.placements, []
        memory.news = (memory.news + status.events(before, after, told))[-MAX_NEWS:]
        return answer

    async def _tell(self, memory: _Memory, body: api.Json) -> None:
        """Last, since nobody waits for an Event."""
        ref = api.ref_of(body)
        news, memory.news = memory.news, []
        for event in news:
            log.info(
                "event %s",
                event.reason,
                extra={"resource": f"{ref.namespace}/{ref.name}", "type": event.type, "text": event.message},
            )
            await self._recorder.record(body, event)


class _Pass:
    """The steps of one pass over a valid resource; its spec is the effective one from here on."""

    def __init__(
        self,
        reconciler: Reconciler,
        memory: _Memory,
        resource: OcrDeployment,
        settings: Effective,
        body: api.Json,
    ) -> None:
        self._all = reconciler
        self._kube, self._world, self._links = reconciler._kube, reconciler._world, reconciler._pods
        self._memory = memory
        self._resource = msgspec.structs.replace(resource, spec=settings.spec)
        self._sources = settings.sources
        self._body = body
        self._key = (resource.namespace, resource.name)
        self._refusal: Refusal | None = None
        self._nofits: dict[str, NoFit] = {}
        self._trouble: api.KubeError | None = None
        """The first error of a step that the others don't depend on; raised at the end of the pass."""

    async def run(self) -> float | None:
        before = livesettings.revision(self._resource.status)
        live = await self._advance()
        token = await self._all._children.token(self._resource)
        self._links.follow(self._key, self._targets(), live, token)
        if before is not None and before.revision != live.revision:
            return 0.0  # the rest comes behind other resources that wait for their push: a policy changes many at once
        await self._stamp(live)
        self._refusal = await self._all._children.ensure(self._resource, token)
        waits = [await self._place(live), await self._report(live)]
        await self._all._tell(self._memory, self._body)
        if self._trouble is not None:
            raise self._trouble
        if self._refusal is not None:
            waits.append(REFUSED_SECONDS)
        return min((each for each in waits if each is not None), default=None)

    # 1. Live settings get their revision

    async def _advance(self) -> LiveSettings:
        values = livesettings.values(self._resource.spec)
        before = livesettings.revision(self._resource.status)
        revision = livesettings.advance(before, values, self._reported(before is None))
        live = livesettings.envelope(self._resource.generation, revision, values)
        if revision != before:
            await self._report(live, urgent=True)
            log.info("live settings resource=%s/%s revision=%d", *self._key, revision.revision)
        return live

    def _reported(self, lost: bool) -> int:
        """The newest revision that any pod has, so that a status wiped by hand can't turn the clock back."""
        newest = 0
        for pod in self._own():
            state, _ = self._links.state(self._key, pod.uid)
            if isinstance(state, PodState):
                newest = max(newest, state.settings.revision)
            if lost and (text := pod.annotation(names.ANNOTATION_LIVE_SETTINGS)):
                stamped = livesettings.parse(text)
                newest = max(newest, stamped.revision if isinstance(stamped, LiveSettings) else 0)
        return newest

    # 2. and the pods hear of them

    def _targets(self) -> Iterable[podwire.Target]:
        port = self._resource.spec.server.port
        targets = (podwire.target(pod, port) for pod in self._own())
        return [each for each in targets if each is not None]

    async def _stamp(self, live: LiveSettings) -> None:
        """The annotation is what a restarted container reads, also while the operator is down."""
        annotations = {names.ANNOTATION_LIVE_SETTINGS: live.to_json()}
        todo = [
            (pod, operations)
            for pod in self._own()
            if not pod.gated and not pod.terminating and not pod.finished
            if (operations := placement.stamp(pod, annotations))
        ]
        if todo:
            await self._links.caught_up(self._key, PUSH_FIRST_SECONDS)
        await self._together([self._patch(pod, operations) for pod, operations in todo])

    # 4. Placement

    async def _place(self, live: LiveSettings) -> float | None:
        """Seconds until the pods that don't fit are looked at again."""
        now = self._all._now()
        work = []
        for pod in sorted(self._own(), key=lambda each: each.name):
            if not pod.gated or pod.terminating or pod.finished:
                continue
            match self._world.choose(self._key, placement.request(self._resource, pod), now):
                case NoFit() as nofit:
                    self._nofits[pod.name] = nofit
                    self._all._metrics.placements.labels("nofit").inc()
                case Placement() as spot:
                    work.append(self._bind(pod, spot, live, now))
        await self._together(work)
        await self._unstick()
        waits = bool(self._nofits) or bool(self._memory.stuck)
        return self._world.look_again if waits else None

    async def _bind(self, pod: Pod, spot: Placement, live: LiveSettings, now: datetime) -> None:
        """One patch: annotations, affinity, gate. What it promises is booked until the pod says it itself."""
        try:
            bound = await self._patch(pod, placement.patch(pod, spot, live.to_json(), now))
        finally:
            self._world.release(spot.uid)
        if bound:
            self._all._metrics.placements.labels("placed").inc()
            log.info("placed pod=%s node=%s why=%s", pod.key, spot.node, spot.why)
            self._memory.placements.append(spot)

    async def _unstick(self) -> None:
        """Pods whose node went away between placement and binding: their Deployment makes others."""
        stuck = {
            pod.uid: pod
            for pod in self._own()
            if pod.unschedulable and not pod.gated and not pod.terminating and self._world.lost_node(pod)
        }
        now = self._all._time()
        since = self._memory.stuck = {uid: self._memory.stuck.get(uid, now) for uid in stuck}
        for uid, pod in stuck.items():
            if now - since[uid] >= STUCK_SECONDS:
                log.warning("replacing pod=%s: its node is gone", pod.key)
                await self._replace(pod)

    async def _replace(self, pod: Pod) -> None:
        try:
            await self._kube.delete(api.Ref(api.POD, pod.namespace, pod.name), uid=pod.uid)
        except api.NotFound:
            return

    # 5. The status

    async def _report(self, live: LiveSettings, *, urgent: bool = False) -> float | None:
        """Aggregates and writes; the pass goes on with the resource as it is after the write."""
        after = status.aggregate(self._resource, self._seen(live), self._all._now())
        applied = _applied(after)
        urgent = urgent or (applied is not None and applied != self._memory.applied)
        answer = await self._all._write(self._memory, self._body, after, urgent=urgent)
        if isinstance(answer, float):
            return answer
        # Not what the watch may have brought by now: a later write must fail if anything else changed.
        self._body = answer
        self._memory.applied = applied or self._memory.applied
        self._resource = msgspec.structs.replace(self._resource, status=answer.get("status") or {})
        return None

    def _seen(self, live: LiveSettings) -> Seen:
        pods = []
        for pod in sorted(self._own(), key=lambda each: each.name):
            state, push_error = self._links.state(self._key, pod.uid)
            pods.append(PodSeen(pod=pod, state=state, push_error=push_error))
        child = self._world.child_deployment(self._key)
        return Seen(
            pods=tuple(pods),
            rollout=rollout(child) if child else None,
            live=live,
            sources=self._sources,
            nofits=self._nofits,
            refusal=self._refusal,
        )

    # Helpers

    def _own(self) -> Iterable[Pod]:
        return self._world.pods_of(self._key)

    async def _patch(self, pod: Pod, operations: Sequence[api.Json]) -> bool:
        """False if the pod is gone or changed: whoever changed it wakes the next pass."""
        try:
            answer = await self._kube.patch(api.Ref(api.POD, pod.namespace, pod.name), operations)
        except (api.NotFound, api.Conflict) as error:
            log.info("pod changed meanwhile: %s", error)
            return False
        self._world.wrote(answer)
        return True

    async def _together(self, work: Sequence[Coroutine[Any, Any, Any]]) -> None:
        """Runs all; an API error of one doesn't keep the others, it is raised when the pass ends."""
        slots = asyncio.Semaphore(CONCURRENT_PATCHES)

        async def one(each: Coroutine[Any, Any, Any]) -> None:
            async with slots:
                try:
                    await each
                except api.KubeError as error:
                    self._trouble = self._trouble or error

        async with asyncio.TaskGroup() as tasks:
            for each in work:
                tasks.create_task(one(each))


def _applied(of: Mapping[str, Any]) -> tuple[int, int] | None:
    """The generation and revision that every ready pod has echoed, if they all have."""
    for each in of.get("conditions") or ():
        if each.get("type") == "ConfigApplied" and each.get("status") == "True":
            return int(each["observedGeneration"]), int(of["liveSettings"]["revision"])
    return None
