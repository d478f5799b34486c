"""One pass over a valid resource, step by step: read, decide (elsewhere, purely), act.

The order of the steps is by what is waited for:

1. the revision of live settings, out of a block that a write of the status has reserved, else by a write that only
   succeeds on the resource as we read it;
2. push and stamp them on the pods, which therefore never see a revision that another process may hand out; a pass
   that raised the revision ends with the push, and a next one does the rest; while pushes of many resources wait for
   each other, stamps and status come behind them;
3. the awake set, before the Service that selects it; 4. children; 5. placement of gated pods; 6. the status, only
   if it changed; 7. Events; 8. an override of live settings that has ended is removed.
"""

import logging
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

import msgspec

from ocr_operator.controllers import deletion_costs, overrides, room, startups
from ocr_operator.controllers.awake import Router
from ocr_operator.controllers.children import obstacle
from ocr_operator.controllers.context import Context, PodWriter, ResourceCache
from ocr_operator.controllers.faults import Contained
from ocr_operator.controllers.placing import Placer
from ocr_operator.controllers.wave import HOLDS
from ocr_operator.controllers.workqueue import AtLatest, soonest
from ocr_operator.decide import placement, status
from ocr_operator.decide.placement import NoFit, failed
from ocr_operator.decide.status import Edited, PodSeen, Refusal, Removal, Seen, Unwritten
from ocr_operator.kube import api
from ocr_operator.pods import wire
from ocr_operator.resources import live_settings
from ocr_operator.resources.effective import Effective
from ocr_operator.resources.observed import Pod, Rollout, rollout
from ocr_operator.resources.reading import count, mapping
from ocr_operator.resources.spec import OcrDeployment
from ocr_wire import names
from ocr_wire.live_settings import Envelope, envelope, read
from ocr_wire.state import PodState

PUSH_FIRST_SECONDS: Final = 1.0
"""For so long stamping waits for the answers to a push: a hundred patches at once would hold up what takes effect now.
"""
STAMPS_AT_LATEST_SECONDS: Final = 30.0
"""For so long stamps and status wait for the pushes of other resources: a thousand resources with five pods each get
theirs in five seconds on a core, and a policy that changes all the time doesn't keep statuses from being written. Twice
as long where every pass has something to push.
"""
REFUSED_SECONDS: Final = 30.0
"""After so long children that the API server refused are tried again: a quota may have grown, and no watch says so."""
REMOVAL_SECONDS: Final = 2.0
"""After so long it is looked again whether a child of that name is gone, which no watch tells of a Secret."""
REFUSED_TOKEN_SECONDS: Final = 5.0
"""Between two reads of a Secret whose token a pod refuses."""
STARTING_SECONDS: Final = 30.0
"""Between two reads of a Secret that a pod may be waiting for: where nodes fail, thousands of pods don't start."""
PREPARED_SECONDS: Final = 10.0
"""For so long a pod on a node may be without an address before that hints at anything: each pod is for some seconds.
Where passes are late, so is what kubelets report, and that is added, `STARTING_SECONDS` at most.
"""

log = logging.getLogger(__name__)

T = TypeVar("T")


class ResourcePass:
    """Its resource's spec is the effective one."""

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
        self._override = settings.override
        self._body = body
        self._key = (resource.namespace, resource.name)
        self._obstacle: Refusal | Removal | Unwritten | None = None
        self._edited: Edited | None = None
        self._steps = Contained()
        self._confirmed = False
        """The API server has shown in this pass that the resource is there."""
        self._nofits: Mapping[str, NoFit] = {}
        self._writer = PodWriter(context.kube, context.cluster)

    async def run(self) -> float | None:
        cache, clock = self._cache, self._context
        cache.failure_history = failed.remember(cache.failure_history, self._own(), clock.time(), clock.now())
        new = self._is_new()
        live, raised = await self._advance(new)
        put_off = self._puts_off(raised)
        waits = [self._doubt_secret(), failed.fades(cache.failure_history, clock.time())]
        children = self._context.children
        token = await self._steps.run(self._tolerated(children.token(self._resource, self._confirm, new=new)))
        if token is not None:
            queue_threshold = self._resource.spec.routing.max_queue_per_pod
            self._links.follow(self._key, self._targets(), live, token, queue_threshold=queue_threshold)
            if raised and put_off is not None:
                return put_off  # the rest comes behind other resources that wait for their push
        waits.append(await self._stamp(live) if put_off is None else put_off)
        waits.append(await Router(self._context, cache, self._resource, self._writer).route())
        if token is not None:
            rank = partial(deletion_costs.write, self._links, self._key, self._own(), self._writer)
            has_room = partial(room.for_one_more, self._context, self._resource)
            ensured = children.ensure(self._resource, token, self._confirm, rank, has_room, new=new)
            found = await self._steps.run(self._tolerated(ensured))
            if isinstance(found, Edited):
                self._edited = found
            else:
                self._obstacle = self._obstacle or found
        waits += [
            await startups.read_warnings(clock, cache, self._own()),
            await self._steps.run(self._place(live)),
        ]
        if put_off is None:
            waits.append(await self._report(live))
        cache.report.edited(self._edited or Edited(), clock.time())
        await self._context.reporter.record_events(cache.report, self._body)
        await overrides.remove_ended(self._context, self._cache, self._body)
        waits.append(overrides.seconds_left(self._override, self._context.now()))
        if (error := self._steps.first or self._writer.first_error) is not None:
            raise error
        if self._obstacle is not None:
            waits.append(REMOVAL_SECONDS if isinstance(self._obstacle, Removal) else REFUSED_SECONDS)
        return soonest(waits)

    async def _tolerated(self, work: Awaitable[T]) -> T | None:
        """Await work on children. An error of it that the status can tell doesn't keep the steps that follow from going
        on; the answer is None then.
        """
        try:
            return await work
        except api.KubeError as error:
            self._obstacle = obstacle(error)
            if self._obstacle is None:
                raise
            if isinstance(self._obstacle, Unwritten) and not isinstance(error, api.Refused):
                self._writer.first_error = self._writer.first_error or error
            return None

    def _doubt_secret(self) -> float | None:
        """Have the Secret read again where something hints that it is another one by now, or gone: a pod refuses the
        token, or doesn't start. Returns the seconds until the next look, None while nothing can hint at it.
        """
        now, cache = self._context.time(), self._cache
        bound = (pod for pod in self._own() if pod.node and not pod.finished and not pod.terminating)
        if all(pod.ip for pod in bound):
            cache.starting_since = None
        elif cache.starting_since is None:
            cache.starting_since = now
        if self._links.token_refused(self._key):
            period = REFUSED_TOKEN_SECONDS
        elif cache.starting_since is None:
            return None
        elif (patience := cache.starting_since + PREPARED_SECONDS + self._late() - now) > 0:
            return patience
        else:
            period = STARTING_SECONDS
        if (early := cache.secret_doubted + period - now) > 0:
            return early
        cache.secret_doubted = now
        self._context.children.doubt_secret(self._resource.uid)
        return period

    def _late(self) -> float:
        return min(STARTING_SECONDS, self._context.lateness())

    async def _confirm(self) -> None:
        """Return if the resource is there, as the one that this pass is about; else raise `api.KubeError`.

        Asked before children are written: those of a resource that is gone would be removed by Kubernetes and written
        again, for as long as no watch tells.
        """
        if self._confirmed:
            return
        ref = api.Ref(api.OCR_DEPLOYMENT, *self._key)
        found = await self._context.kube.get(ref)
        self._cluster.answered(found)
        if found["metadata"].get("uid") != self._resource.uid:
            raise api.Conflict(ref, 409, "another resource of that name took its place")
        if found["metadata"].get("deletionTimestamp"):
            raise api.Conflict(ref, 409, "it is being deleted")
        if found["metadata"].get("generation") != self._resource.generation:
            raise api.Conflict(ref, 409, "its spec is another one by now, or again after a restore")
        self._confirmed = True

    # 1. The revision of live settings

    async def _advance(self, new: bool) -> tuple[Envelope, bool]:
        """Return what pods should run with, and whether this pass has raised its revision."""
        values = live_settings.values(self._resource.spec)
        recorded = live_settings.revision(self._resource.status)
        # Without its Leases a process hands nothing out: what it would record instead, the fence refuses.
        issued = self._cache.issued if self._context.may_write(self._resource.namespace) else None
        step = live_settings.advance(recorded, values, self._reported(recorded is None), issued)
        live = envelope(self._resource.generation, step.revision.revision, values)
        if step.record_first:
            # Of a new resource all is known: there is nothing of it yet.
            compared = new and self._resource.spec.replicas > 0
            await self._report(live, urgent=True, compared=compared)
        elif step.raised and issued is not None:
            self._cache.issued = msgspec.structs.replace(issued, newest=step.revision)
        if step.raised:
            log.info("live settings resource=%s/%s revision=%d", *self._key, live.revision)
        return live, step.raised and recorded is not None

    def _is_new(self) -> bool:
        """Return whether no pass has been here: the resource has neither children nor a status that is about them."""
        reported = count(self._resource.status, "observedGeneration", status.NOT_SEEN)
        return not (self._cluster.children(self._key) or self._own()) and reported <= status.NOT_SEEN

    def _is_reported(self) -> bool:
        """Return whether the status is about the spec as it is."""
        return self._resource.status.get("observedGeneration") == self._resource.generation

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

    def _puts_off(self, raised: bool) -> float | None:
        """Return the seconds for which stamps and status wait at most, and the other steps, too, of a pass that raised
        the revision; None where all come now.

        They come behind the pushes of all resources, for a policy changes many at once: each stamp is a write, and
        together these take from the pushes the time of the API server and of this process. What a new spec asks for
        and pods that wait for their place come at once, and all of it in the end, however often settings change. That
        it is overdue doesn't put the stamps of one resource before the pushes of others, unless each pass raises.
        """
        now, cache = self._context.time(), self._cache
        if raised and cache.stamps_due is None:
            cache.stamps_due = now + STAMPS_AT_LATEST_SECONDS
        left = 0.0 if cache.stamps_due is None else cache.stamps_due - now
        waits = left > 0 and self._is_reported()
        if raised and left > -STAMPS_AT_LATEST_SECONDS:
            waits = waits and not any(pod.gated for pod in self._own())
            return AtLatest(left) if waits else 0.0
        if waits and self._context.many_pushes():
            return AtLatest(left)
        cache.stamps_due = None
        return None

    async def _stamp(self, live: Envelope) -> float | None:
        """Annotate the pods: a restarted container reads that, also while the operator is down. Returns the seconds
        until that may be done again, if it is too early now.
        """
        annotations = {names.ANNOTATION_LIVE_SETTINGS: live.to_json()}
        todo = [
            (pod, operations)
            for pod in self._own()
            if not pod.gated and not pod.terminating and not pod.finished
            if (operations := placement.stamp(pod, annotations))
        ]
        if not todo:
            return None
        self._cache.stamps, early = self._cache.stamps.take(self._context.time())
        if early > 0:
            return early
        await self._links.caught_up(self._key, PUSH_FIRST_SECONDS)
        await self._writer.together(
            [partial(self._writer.patch, pod, operations) for pod, operations in todo]
        )
        return None

    # 5. Placement

    async def _place(self, live: Envelope) -> float | None:
        """Return the seconds until the pods that don't fit are tried again."""
        placer = Placer(self._context, self._cache, self._resource, self._writer)
        again = await placer.place(live)
        self._nofits = placer.nofits
        return again

    # 6. The status

    async def _report(self, live: Envelope, *, urgent: bool = False, compared: bool = True) -> float | None:
        """Aggregate and write; the pass goes on with the resource as it is after the write. Returns the seconds until
        the next pass.
        """
        seen, now = self._seen(live), self._context.now()
        recorded = live_settings.revision(self._resource.status)
        block = live_settings.reserve(recorded, live.revision, self._cache.issued)
        seen = replace(seen, reserved=block.last)
        hurries = urgent or not self._is_reported()
        if not hurries and (wait := self._cache.first_words(seen.pods, self._context.time())):
            return wait
        after = status.aggregate(self._resource, seen, now, compared=compared)
        applied = status.applied(after)
        known = self._cache.applied
        urgent = urgent or (known is not None and applied is not None and applied != known)
        answer = await self._context.reporter.write(
            self._cache.report, self._body, after, urgent=urgent, announced=self._cache.applied
        )
        if isinstance(answer, float):
            return answer
        if answer is not self._body:
            self._confirmed = True
            self._cache.issued = live_settings.issued(mapping(answer, "status"), block)
        # Not what the watch may have brought by now: a later write must fail if anything else changed.
        self._body = answer
        self._cache.applied = applied or self._cache.applied
        self._resource = msgspec.structs.replace(self._resource, status=mapping(answer, "status"))
        return status.settles(seen.pods, now)

    def _seen(self, live: Envelope) -> Seen:
        pods, nodes = [], self._context.gpus.gpu_nodes
        for pod in sorted(self._own(), key=lambda each: each.name):
            state, push_error = self._links.state(self._key, pod.uid)
            _, warning = self._cache.warnings.get(pod.uid, (0.0, ""))
            pods.append(
                PodSeen(
                    pod=pod,
                    state=state,
                    push_error=push_error,
                    warning=warning,
                    node_ready=self._cluster.node_ready(pod),
                    gpu_nodes=nodes,
                )
            )
        child = self._cluster.child_deployment(self._key)
        return Seen(
            pods=tuple(pods),
            rollout=self._rollout(child) if child else None,
            waits=self._context.wave.words(self._key),
            live=live,
            sources=self._sources,
            override=self._override,
            nofits=self._nofits,
            ended=tuple(failed.recent(self._cache.failure_history, self._own(), self._context.time())),
            refusal=self._obstacle if isinstance(self._obstacle, Refusal) else None,
            removal=self._obstacle if isinstance(self._obstacle, Removal) else None,
            edited=self._edited,
            unwritten=self._obstacle if isinstance(self._obstacle, Unwritten) else None,
            fault=self._steps.fault,
        )

    def _rollout(self, child: api.Json) -> Rollout:
        seen = rollout(child)
        if seen.failed and self._context.wave.holds(self._key):
            return replace(seen, failed=seen.failed + HOLDS)
        return seen

    def _own(self) -> list[Pod]:
        return self._context.cluster.pods_of(self._key)
