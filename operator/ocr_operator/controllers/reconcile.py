"""Reconciling a resource: one pass, step by step: read, decide (elsewhere, purely), act.

Level-based: a pass reads what is, never what happened, so it may run at any time, twice, or after a crash at any
point, and ends in the same place. The order of the steps is by what is waited for:

1. the revision of live settings, by a write that only succeeds on the resource as we read it;
2. push and stamp them on the pods, which therefore never see a revision that isn't recorded; a pass that raised the
   revision ends with the push, and the next one does the rest;
3. the awake set, before the Service that selects it; 4. children; 5. placement of gated pods; 6. the status, only
   if it changed; 7. Events.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from ocr_operator.controllers.context import Context, PodWriter, ResourceCache
from ocr_operator.controllers.placing import Placer
from ocr_operator.decide import placement, routing, status
from ocr_operator.decide.placement import NoFit
from ocr_operator.decide.status import PodSeen, Refusal, Seen
from ocr_operator.kube import api
from ocr_operator.pods import wire
from ocr_operator.pods.unreachable import Unreachable
from ocr_operator.resources import effective, live_settings, spec
from ocr_operator.resources.effective import Effective
from ocr_operator.resources.observed import Key, Pod, rollout
from ocr_operator.resources.spec import InvalidSpec, OcrDeployment
from ocr_wire import names
from ocr_wire.live_settings import Envelope, envelope, read
from ocr_wire.state import PodState

PUSH_FIRST_SECONDS: Final = 1.0
"""For so long stamping waits for the answers to a push: a hundred patches at once would hold up what takes effect now.
"""
REFUSED_SECONDS: Final = 30.0
"""After so long children that the API server refused are tried again: a quota may have grown."""
MEND_SECONDS: Final = 1.0
"""After so long a label that couldn't be written is tried again, if nothing enqueues the resource before."""

log = logging.getLogger(__name__)


class Reconciler:
    """Passes over resources; the queue sees to it that a resource has one at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._caches: dict[Key, ResourceCache] = {}
        context.metrics.awake.set_function(
            lambda: sum(len(each.routing_state.members or ()) for each in self._caches.values())
        )

    async def reconcile(self, key: Key) -> float | None:
        """Run one pass; returns the seconds until the next one, None for "when something changes".

        Raises `api.KubeError`.
        """
        with self._context.metrics.reconcile_seconds.time():
            return await self._pass(key)

    async def _pass(self, key: Key) -> float | None:
        cluster, now = self._context.cluster, self._context.now()
        body = cluster.resource(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self._forget(key, gone=body is None)
            return None
        cache = self._caches.get(key)
        if cache is None or cache.uid != body["metadata"]["uid"]:
            self._forget(key, gone=False)
            cache = self._caches[key] = ResourceCache(body["metadata"]["uid"])
        resource = spec.parse(body)
        if isinstance(resource, InvalidSpec):
            cluster.set_policy_usage(key, None)
            reporter = self._context.reporter
            await reporter.write(cache.report, body, status.stalled(body, resource, now), urgent=True)
            await reporter.record_events(cache.report, body)
            return None
        settings = effective.of(resource, cluster.policies_of(body), now)
        cluster.set_policy_usage(key, settings.policy_usage)
        return await _ResourcePass(self._context, cache, resource, settings, body).run()

    def _forget(self, key: Key, *, gone: bool) -> None:
        self._context.pods.forget(key)
        if (cache := self._caches.pop(key, None)) is not None:
            self._context.children.forget(cache.uid)
        if gone:
            self._context.forget(key)


class _ResourcePass:
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
        self._cluster, self._links = context.cluster, context.pods
        self._cache = cache
        self._resource = msgspec.structs.replace(resource, spec=settings.spec)
        self._sources = settings.sources
        self._body = body
        self._key = (resource.namespace, resource.name)
        self._refusal: Refusal | None = None
        self._nofits: Mapping[str, NoFit] = {}
        self._writer = PodWriter(context.kube, context.cluster)

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
        await self._context.reporter.record_events(self._cache.report, self._body)
        if self._writer.first_error is not None:
            raise self._writer.first_error
        if self._refusal is not None:
            waits.append(REFUSED_SECONDS)
        return min((each for each in waits if each is not None), default=None)

    # 1. The revision of live settings

    async def _advance(self) -> Envelope:
        values = live_settings.values(self._resource.spec)
        before = live_settings.revision(self._resource.status)
        revision = live_settings.advance(before, values, self._reported(before is None))
        live = envelope(self._resource.generation, revision.revision, values)
        if revision != before:
            await self._report(live, urgent=True)
            log.info("live settings resource=%s/%s revision=%d", *self._key, revision.revision)
        return live

    def _reported(self, lost: bool) -> int:
        """Find the newest revision that any pod has, so that a status wiped by hand can't turn the clock back."""
        newest = 0
        for pod in self._own():
            state, _ = self._links.state(self._key, pod.uid)
            if isinstance(state, PodState):
                newest = max(newest, state.settings.revision)
            if lost and (text := pod.annotation(names.ANNOTATION_LIVE_SETTINGS)):
                stamped = read(text)
                newest = max(newest, stamped.revision if isinstance(stamped, Envelope) else 0)
        return newest

    # 2. The pods get them

    def _targets(self) -> Iterable[wire.Target]:
        port = self._resource.spec.server.port
        targets = (wire.target(pod, port) for pod in self._own())
        return [each for each in targets if each is not None]

    async def _stamp(self, live: Envelope) -> None:
        """Annotate the pods: a restarted container reads that, also while the operator is down."""
        annotations = {names.ANNOTATION_LIVE_SETTINGS: live.to_json()}
        todo = [
            (pod, operations)
            for pod in self._own()
            if not pod.gated and not pod.terminating and not pod.finished
            if (operations := placement.stamp(pod, annotations))
        ]
        if todo:
            await self._links.caught_up(self._key, PUSH_FIRST_SECONDS)
        await self._writer.together([self._writer.patch(pod, operations) for pod, operations in todo])

    # 3. The awake set

    async def _route(self) -> float | None:
        """Label the pods that get requests; returns the seconds until that may change without anything happening."""
        decision, model = self._awake()
        known, self._cache.routing_state = self._cache.routing_state.members, decision.state
        pods = {pod.uid: pod for pod in self._own()}
        for sentence in decision.why:
            log.info("awake set resource=%s/%s why=%s", *self._key, sentence)
        if known:  # the first pod of a resource is no change
            self._cache.report.moved(decision.why)
        joins = [
            self._writer.patch(pods[uid], routing.patch(pods[uid], awake=True)) for uid in decision.joins
        ]
        joined = await self._writer.together(joins)
        self._context.metrics.awake_labels.labels("joined").inc(joined.count(True))
        if not all(joined):
            return MEND_SECONDS  # no pod leaves before those in its place are there
        for uid in decision.wakes:
            self._links.wake(self._key, uid, model)
        leaves = [
            self._writer.patch(pods[uid], routing.patch(pods[uid], awake=False)) for uid in decision.leaves
        ]
        left = await self._writer.together(leaves)
        self._context.metrics.awake_labels.labels("left").inc(left.count(True))
        return decision.again if all(left) else MEND_SECONDS

    def _awake(self) -> tuple[routing.Decision, str]:
        """Decide, and name the model that the pods that join are to wake."""
        ours = self._resource.spec
        models = [model.name for model in ours.models]
        reported = {pod.uid: self._links.state(self._key, pod.uid)[0] for pod in self._own()}
        states = {uid: state for uid, state in reported.items() if isinstance(state, PodState)}
        lost = {uid for uid, state in reported.items() if isinstance(state, Unreachable)}
        pods = routing.candidates(self._own(), states, lost, models)
        decision = routing.decide(
            pods, ours.routing, ours.batching.max_pages, self._cache.routing_state, self._context.time()
        )
        return decision, routing.asked_for(states.values(), models)

    # 5. Placement

    async def _place(self, live: Envelope) -> float | None:
        """Return the seconds until the pods that don't fit are tried again."""
        placer = Placer(self._context, self._cache, self._resource, self._writer)
        again = await placer.place(live)
        self._nofits = placer.nofits
        return again

    # 6. The status

    async def _report(self, live: Envelope, *, urgent: bool = False) -> float | None:
        """Aggregate and write; the pass goes on with the resource as it is after the write. Returns the seconds until
        the next pass.
        """
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

    def _seen(self, live: Envelope) -> Seen:
        pods = []
        for pod in sorted(self._own(), key=lambda each: each.name):
            state, push_error = self._links.state(self._key, pod.uid)
            pods.append(
                PodSeen(pod=pod, state=state, push_error=push_error, gpu_nodes=self._context.gpus.gpu_nodes)
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

    def _own(self) -> list[Pod]:
        return self._context.cluster.pods_of(self._key)


def _applied(of: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the generation and revision that every ready pod has echoed, if they all have."""
    for each in of.get("conditions") or ():
        if each.get("type") == "ConfigApplied" and each.get("status") == "True":
            return int(each["observedGeneration"]), int(of["liveSettings"]["revision"])
    return None
