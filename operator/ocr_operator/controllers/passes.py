"""One pass over one valid resource, step by step: read, decide (elsewhere, purely), act.

The order within a pass is by what somebody waits for:

1. the revision of live settings, by a write that only succeeds on the resource as we read it;
2. push and stamp them on the pods, which therefore never see a revision that isn't recorded; a pass that raised the
   revision ends with the push, and the next one does the rest;
3. the awake set, before the Service that selects it; 4. children; 5. placement of gated pods; 6. the status, only
   if it changed; 7. Events.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from ocr_operator.controllers import claims
from ocr_operator.controllers.children import Children
from ocr_operator.controllers.cluster_state import ClusterState
from ocr_operator.controllers.reports import Report, Reporter
from ocr_operator.decide import manifests, placement, routing, status
from ocr_operator.decide.placement import NoFit, NoFitReason, Placement, unschedulable
from ocr_operator.decide.status import PodSeen, Refusal, Seen
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.pods import wire
from ocr_operator.pods.client import PodClient
from ocr_operator.pods.podstate import PodState, Unreachable
from ocr_operator.resources import live_settings, names
from ocr_operator.resources.effective import Effective
from ocr_operator.resources.live_settings import LiveSettings
from ocr_operator.resources.observed import Pod, rollout
from ocr_operator.resources.spec import OcrDeployment

CONCURRENT_PATCHES: Final = 32
"""Of pods, per resource: 500 pods are stamped in about half a second without a burst on the API server."""
PUSH_FIRST_SECONDS: Final = 1.0
"""For so long stamping waits for the answers to a push: a hundred patches at once would hold up what takes effect now.
"""
REFUSED_SECONDS: Final = 30.0
"""After so long children that the API server refused are tried again: a quota may have grown."""
MEND_SECONDS: Final = 1.0
"""After so long a label that couldn't be written is tried again, if nothing wakes the resource before."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ResourceCache:
    """What one resource's passes remember of each other; all of it can be lost. Written only by the passes."""

    uid: str
    report: Report = field(default_factory=Report)
    applied: tuple[int, int] | None = None
    """The last generation and revision that were told to be applied: the news that somebody waits for, once each.
    """
    routing_state: routing.RoutingState = field(default_factory=routing.RoutingState)
    unschedulable_history: unschedulable.UnschedulableHistory = field(
        default_factory=unschedulable.UnschedulableHistory
    )
    """Pods that hang on nodes which can't take them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What passes act with."""

    kube: api.Kube
    cluster: ClusterState
    pods: PodClient
    children: Children
    reporter: Reporter
    metrics: Metrics
    now: Callable[[], datetime]
    time: Callable[[], float]


class Pass:
    """The steps of one pass over a valid resource; its spec is the effective one from here on."""

    def __init__(
        self,
        context: Context,
        cache: ResourceCache,
        resource: OcrDeployment,
        settings: Effective,
        body: api.Json,
    ) -> None:
        self._context = context
        self._kube, self._cluster, self._links = context.kube, context.cluster, context.pods
        self._cache = cache
        self._resource = msgspec.structs.replace(resource, spec=settings.spec)
        self._sources = settings.sources
        self._body = body
        self._key = (resource.namespace, resource.name)
        self._refusal: Refusal | None = None
        self._nofits: dict[str, NoFit] = {}
        self._first_error: api.KubeError | None = None
        """The first error of a step that the others don't depend on; raised at the end of the pass."""

    async def run(self) -> float | None:
        before = live_settings.revision(self._resource.status)
        live = await self._advance()
        token = await self._context.children.token(self._resource)
        queue_threshold = self._resource.spec.routing.max_queue_per_pod
        self._links.follow(self._key, self._targets(), live, token, queue_threshold=queue_threshold)
        if before is not None and before.revision != live.revision:
            return 0.0  # the rest comes behind other resources that wait for their push: a policy changes many at once
        await self._stamp(live)
        waits = [await self._route()]
        self._refusal = await self._context.children.ensure(self._resource, token)
        waits += [await self._place(live), await self._report(live)]
        await self._context.reporter.tell(self._cache.report, self._body)
        if self._first_error is not None:
            raise self._first_error
        if self._refusal is not None:
            waits.append(REFUSED_SECONDS)
        return min((each for each in waits if each is not None), default=None)

    # 1. Live settings get their revision

    async def _advance(self) -> LiveSettings:
        values = live_settings.values(self._resource.spec)
        before = live_settings.revision(self._resource.status)
        revision = live_settings.advance(before, values, self._reported(before is None))
        live = live_settings.envelope(self._resource.generation, revision, values)
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
                stamped = live_settings.parse(text)
                newest = max(newest, stamped.revision if isinstance(stamped, LiveSettings) else 0)
        return newest

    # 2. and the pods hear of them

    def _targets(self) -> Iterable[wire.Target]:
        port = self._resource.spec.server.port
        targets = (wire.target(pod, port) for pod in self._own())
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

    # 3. The awake set

    async def _route(self) -> float | None:
        """Labels who gets requests; seconds until that may change without anything happening."""
        decision, model = self._awake()
        known, self._cache.routing_state = self._cache.routing_state.members, decision.state
        pods = {pod.uid: pod for pod in self._own()}
        for sentence in decision.why:
            log.info("awake set resource=%s/%s why=%s", *self._key, sentence)
        if known:  # the first pod of a resource is no change
            self._cache.report.moved(decision.why)
        joins = [self._patch(pods[uid], routing.patch(pods[uid], awake=True)) for uid in decision.joins]
        joined = await self._together(joins)
        self._context.metrics.awake_labels.labels("joined").inc(joined.count(True))
        if not all(joined):
            return MEND_SECONDS  # nobody leaves before those in its place are there
        for uid in decision.wakes:
            self._links.wake(self._key, uid, model)
        leaves = [self._patch(pods[uid], routing.patch(pods[uid], awake=False)) for uid in decision.leaves]
        left = await self._together(leaves)
        self._context.metrics.awake_labels.labels("left").inc(left.count(True))
        return decision.again if all(left) else MEND_SECONDS

    def _awake(self) -> tuple[routing.Decision, str]:
        """The decision, and the model that those who join are to wake."""
        spec = self._resource.spec
        models = [model.name for model in spec.models]
        reported = {pod.uid: self._links.state(self._key, pod.uid)[0] for pod in self._own()}
        states = {uid: state for uid, state in reported.items() if isinstance(state, PodState)}
        lost = {uid for uid, state in reported.items() if isinstance(state, Unreachable)}
        pods = routing.candidates(self._own(), states, lost, models)
        decision = routing.decide(
            pods, spec.routing, spec.batching.max_pages, self._cache.routing_state, self._context.time()
        )
        return decision, routing.asked_for(states.values(), models)

    # 5. Placement

    async def _place(self, live: LiveSettings) -> float | None:
        """Seconds until the pods that don't fit are looked at again."""
        now = self._context.now()
        refused = unschedulable.refused(self._cache.unschedulable_history, self._context.time())
        work = []
        for pod in sorted(self._own(), key=lambda each: each.name):
            if not pod.gated or pod.terminating or pod.finished:
                continue
            await asyncio.sleep(0)  # one choice among thousands of GPUs takes a good part of a second
            request = placement.request(self._resource, pod, refused)
            choice = self._cluster.choose(self._key, request, now)
            if isinstance(choice, NoFit):
                choice = placement.give_up(request, pod, choice, now) or choice
            match choice:
                case NoFit() as nofit:
                    self._nofits[pod.name] = nofit
                    self._context.metrics.placements.labels("nofit").inc()
                case Placement() as placed:
                    work.append(self._bind(pod, placed, live, now))
        await self._together(work)
        await self._unstick()
        waits = bool(self._nofits) or bool(self._cache.unschedulable_history.since)
        return self._cluster.retry_seconds if waits else None

    async def _bind(self, pod: Pod, placed: Placement, live: LiveSettings, now: datetime) -> None:
        """One patch: annotations, affinity, label, gate. What it promises is booked until the pod says it itself."""
        try:
            if placed.sharing == "claim" and not await self._claim(pod, placed):
                return
            self._cache.routing_state, label = routing.place(
                pod, self._resource.spec.routing, self._cache.routing_state
            )
            bound = await self._patch(pod, [*placement.patch(pod, placed, live.to_json(), now), label])
        finally:
            self._cluster.release(placed.uid)
        if bound:
            self._context.metrics.placements.labels("placed").inc()
            log.info("placed pod=%s node=%s why=%s", pod.key, placed.node, placed.why)
            self._cache.report.placements.append(placed)

    async def _claim(self, pod: Pod, placed: Placement) -> bool:
        """Makes the pod's ResourceClaim; False, with the reason as a refusal, where the API server takes none."""
        try:
            await claims.ensure(
                self._kube, manifests.claim(self._resource, pod, [gpu.uuid for gpu in placed.gpus])
            )
        except (api.Refused, api.NotFound) as error:
            text = f"{error}; gpu.sharing: claim needs Kubernetes 1.34 and a DRA driver"
            self._nofits[pod.name] = NoFit(reason=NoFitReason.CLAIM_REFUSED, message=text)
            return False
        return True

    async def _unstick(self) -> None:
        """Pods whose node went away, or was filled by others, between placement and binding are replaced."""
        pinned = [
            unschedulable.Unschedulable(pod, *self._cluster.pinned_to(pod))
            for pod in self._own()
            if pod.unschedulable and not pod.gated and not pod.terminating
        ]
        unplaceable = [each for each in pinned if each.node]
        self._cache.unschedulable_history, due = unschedulable.decide(
            self._cache.unschedulable_history, unplaceable, self._context.time()
        )
        for pod, node, lost in ((each.pod, each.node, each.lost) for each in due):
            why = "is gone or takes no pods" if lost else f"is refused by the scheduler: {pod.unschedulable}"
            log.warning("replacing pod=%s: its node %s %s", pod.key, node, why)
            await self._replace(pod)

    async def _replace(self, pod: Pod) -> None:
        try:
            await self._kube.delete(api.Ref(api.POD, pod.namespace, pod.name), uid=pod.uid)
        except api.NotFound:
            return

    # 6. The status

    async def _report(self, live: LiveSettings, *, urgent: bool = False) -> float | None:
        """Aggregates and writes; the pass goes on with the resource as it is after the write. Answers when to look
        again."""
        seen, now = self._seen(live), self._context.now()
        after = status.aggregate(self._resource, seen, now)
        applied = _applied(after)
        urgent = urgent or (applied is not None and applied != self._cache.applied)
        answer = await self._context.reporter.write(self._cache.report, self._body, after, urgent=urgent)
        if isinstance(answer, float):
            return answer
        # Not what the watch may have brought by now: a later write must fail if anything else changed.
        self._body = answer
        self._cache.applied = applied or self._cache.applied
        self._resource = msgspec.structs.replace(self._resource, status=answer.get("status") or {})
        return status.settles(seen.pods, now)

    def _seen(self, live: LiveSettings) -> Seen:
        pods = []
        for pod in sorted(self._own(), key=lambda each: each.name):
            state, push_error = self._links.state(self._key, pod.uid)
            pods.append(
                PodSeen(pod=pod, state=state, push_error=push_error, gpu_nodes=self._cluster.gpu_nodes)
            )
        child = self._cluster.child_deployment(self._key)
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
        return self._cluster.pods_of(self._key)

    async def _patch(self, pod: Pod, operations: Sequence[api.Json]) -> bool:
        """False if the pod is gone or changed: whoever changed it wakes the next pass."""
        try:
            answer = await self._kube.patch(api.Ref(api.POD, pod.namespace, pod.name), operations)
        except (api.NotFound, api.Conflict) as error:
            log.info("pod changed meanwhile: %s", error)
            return False
        self._cluster.written(answer)
        return True

    async def _together(self, work: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """Runs all; their answers, None for one that failed. An API error of one doesn't keep the others, it is
        raised when the pass ends.
        """
        slots = asyncio.Semaphore(CONCURRENT_PATCHES)

        async def one(each: Coroutine[Any, Any, Any]) -> Any:
            async with slots:
                try:
                    return await each
                except api.KubeError as error:
                    self._first_error = self._first_error or error

        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(one(each)) for each in work]
        return [each.result() for each in started]


def _applied(of: Mapping[str, Any]) -> tuple[int, int] | None:
    """The generation and revision that every ready pod has echoed, if they all have."""
    for each in of.get("conditions") or ():
        if each.get("type") == "ConfigApplied" and each.get("status") == "True":
            return int(each["observedGeneration"]), int(of["liveSettings"]["revision"])
    return None
