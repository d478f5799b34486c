"""Placement of a resource's gated pods, and the replacement of placed ones: those that their nodes can't take, and
those whose promise goes to a pod of a higher priority.
"""

import asyncio
import logging
from collections import Counter
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

from ocr_operator.controllers import claims
from ocr_operator.controllers.context import Context, PodWriter, ResourceCache, Work
from ocr_operator.controllers.volumes import VolumeReader
from ocr_operator.decide import manifests, placement, routing
from ocr_operator.decide.ownership import Whose
from ocr_operator.decide.placement import Basis, NoFit, NoFitReason, Placement, Request, failed, unschedulable
from ocr_operator.decide.placement.withdrawal import Withdrawal
from ocr_operator.decide.status import Event
from ocr_operator.kube import api
from ocr_operator.resources.observed import Pod
from ocr_operator.resources.spec import OcrDeployment
from ocr_wire import names
from ocr_wire.live_settings import Envelope

MAX_MESSAGE: Final = 512
LATE_SECONDS: Final = 2.0
"""Where passes begin later than that, pods are placed in a hurry."""
NOMINATED_SECONDS: Final = 5.0
"""For so long the patch of a pod waits for the watch to show its nomination: some milliseconds, or a second where a
thousand pods come at once.
"""

log = logging.getLogger(__name__)


class Placer:
    """The placement step of one pass."""

    def __init__(
        self,
        context: Context,
        cache: ResourceCache,
        resource: OcrDeployment,
        writer: PodWriter,
    ) -> None:
        self._context = context
        self._cache = cache
        self._resource = resource
        self._key = (resource.namespace, resource.name)
        self._writer = writer
        self.nofits: dict[str, NoFit] = {}
        """Pod name → why it waits."""
        self._replaced: list[tuple[Pod, str]] = []
        """Pods that lost their promises, with the reason."""

    async def place(self, live: Envelope) -> float | None:
        """Place the gated pods; returns the seconds until those that don't fit are tried again."""
        now = self._context.now()
        time, history = self._context.time(), self._cache.failure_history
        refused = Counter(unschedulable.refused(self._cache.unschedulable_history))
        ended = [pod for pod in self._own() if pod.finished]
        refused += failed.refused(history, ended, time)
        work, volumes = list[Work](), VolumeReader(self._context.kube)
        left = list[Work]()
        for pod in sorted(self._own(), key=lambda each: (-each.demand.priority, each.name)):
            if not pod.gated or pod.terminating or pod.finished:
                continue
            if pause := failed.wait(history, ended, pod, self._resource.spec.replicas, time):
                self.nofits[pod.name] = failed.nofit(pause)
                continue
            request = placement.request(self._resource, pod, refused, await volumes.reach(pod))
            choice = await self._choose(request)
            if isinstance(choice, NoFit):
                after = self._context.leave_to_scheduler_seconds
                choice = placement.give_up(request, pod, choice, now, after_seconds=after) or choice
            match choice:
                case NoFit() as nofit:
                    self.nofits[pod.name] = nofit
                    self._context.metrics.placements.labels("nofit").inc()
                    work.append(partial(self._take, pod, request, live, now))
                case Placement() as placed:
                    to = left if placed.basis is Basis.SCHEDULER else work
                    to.append(partial(self._bind, pod, request, placed, live, now))
        work += [partial(self._confirm, pod) for pod in self._own() if claims.unconfirmed(pod)]
        await self._writer.together(work)
        # The scheduler knows of no promise: what it sees first gets the device.
        await self._writer.together(left)
        await self._record_replaced()
        await self._replace_unschedulable()
        undone = await self._undo_late()
        waits = undone or bool(self.nofits) or bool(self._cache.unschedulable_history.since)
        return self._context.cluster.retry_seconds if waits else None

    async def _choose(self, request: Request) -> Placement | NoFit:
        """Choose, after others had their turn while what changed was looked at."""
        cluster, gpus, states = self._context.cluster, self._context.gpus, self._context.pods.heard
        for _ in range(cluster.parts()):  # a bound: other passes may undo it with pods of other kinds
            await asyncio.sleep(0)
            if cluster.prepare(request, gpus, states):
                break
        return cluster.choose(self._key, request, gpus, states)

    async def _bind(
        self, pod: Pod, request: Request, placed: Placement, live: Envelope, now: datetime
    ) -> None:
        """Send the one patch: annotations, affinity, label, gate. Its promise stays reserved until it is answered."""
        try:
            if placed.sharing == "claim":
                claimed = await self._claim(pod, placed)
                if claimed is None:
                    return
                placed = claimed
            if self._context.lateness() >= LATE_SECONDS:
                placed = placement.in_a_hurry(placed, request)
            # The same node isn't named twice: an operator that ended right after that may have got so far.
            if placed.free and pod.nominated != placed.node:
                await self._nominate(pod, placed.node)
            self._cache.routing_state, label = routing.place(
                pod, self._resource.spec.routing, self._cache.routing_state, now
            )
            bound = await self._writer.patch(
                pod, [*placement.patch(pod, placed, live.to_json(), now), *label]
            )
        except api.KubeError as error:
            self.nofits[pod.name] = NoFit(reason=NoFitReason.PATCH_REFUSED, message=str(error)[:MAX_MESSAGE])
            raise
        finally:
            self._context.cluster.accounting.release(placed.uid)
        if bound:
            self._context.metrics.placements.labels("placed").inc()
            log.info("placed pod=%s node=%s why=%s", pod.key, placed.node, placed.why)
            self._cache.report.placements.append(placed)

    def _withdraw(self, request: Request) -> Withdrawal | None:
        """Choose which pods lose their promises to a pod that fits nowhere; what it gets then is reserved for it."""
        context = self._context
        return context.cluster.withdraw(
            request,
            context.gpus,
            context.pods.heard,
            lambda namespace: context.whose(namespace) in (Whose.OURS, Whose.UNGUARDED),
        )

    async def _take(self, pod: Pod, request: Request, live: Envelope, now: datetime) -> None:
        """Replace the pods that lose their promises to one that fits nowhere, one after the other, and place it once
        all are gone. Ends at the first that was bound meanwhile: only those before it were replaced for nothing.
        """
        if (found := self._withdraw(request)) is None:
            return
        context, choice = self._context, None
        try:
            for victim in found.victims:
                log.warning("replacing pod=%s: %s", victim.key, found.why_of(victim))
                if not await self._replace(victim, only_as_read=True):
                    return
                self._replaced.append((victim, found.why_of(victim)))
            choice = context.cluster.choose(self._key, request, context.gpus, context.pods.heard)
            if isinstance(choice, Placement):
                del self.nofits[pod.name]
                why = f"{found.why}; {choice.why}"
                await self._bind(pod, request, replace(choice, why=why), live, now)
                self._cache.report.news.append(Event(type="Normal", reason="PromiseTaken", message=found.why))
        finally:
            if not isinstance(choice, Placement):
                context.cluster.accounting.release(pod.uid)

    async def _record_replaced(self) -> None:
        """Record with the resources of pods that lost their promises why these were replaced."""
        for victim, why in self._replaced:
            body = self._context.cluster.resource((victim.namespace, victim.deployment))
            if body is not None:
                event = Event(type="Normal", reason="PromiseYielded", message=why)
                await self._context.reporter.recorder.record(body, event)

    async def _nominate(self, pod: Pod, node: str) -> None:
        """Have the scheduler try the node first; without that it goes by what the pod prefers, among other things.

        Returns once the next patch of the pod isn't double work of the API server, as it was for 85 % of the pods in a
        cold start of 5,000, whose cache was behind.
        """
        ref = api.Ref(api.POD, pod.namespace, pod.name)
        try:
            written = await self._context.kube.patch(
                ref, placement.nominate(pod, node), subresource="/status"
            )
        except (api.Refused, api.Conflict, api.NotFound) as error:
            log.info("not nominated pod=%s node=%s: %s", pod.key, node, error)
        else:
            version = written["metadata"]["resourceVersion"]
            await self._context.cluster.pods.reached(pod.namespace, version, NOMINATED_SECONDS)

    async def _claim(self, pod: Pod, placed: Placement) -> Placement | None:
        """Make the pod's ResourceClaim, and return the placement that it allows; None, with the reason as a refusal,
        where the API server takes none.
        """
        manifest = partial(manifests.claim, self._resource, pod, barred=placed.barred)
        try:
            listed = await claims.make(self._context.kube, manifest, placed.uuids)
        except (api.Refused, api.NotFound) as error:
            text = f"{error}; gpu.sharing: claim needs Kubernetes 1.34 and a DRA driver"
            self.nofits[pod.name] = NoFit(reason=NoFitReason.CLAIM_REFUSED, message=text)
            return None
        return placed if len(listed) == len(placed.uuids) else replace(placed, alternatives=())

    async def _confirm(self, pod: Pod) -> None:
        """Name the GPU that a pod got of those that its claim lists."""
        uuid = await claims.allocated(self._context.kube, pod)
        if uuid:
            await self._writer.patch(pod, placement.stamp(pod, {names.ANNOTATION_GPU_UUIDS: uuid}))

    async def _replace_unschedulable(self) -> None:
        """Pods whose node went away, or was filled by others, between placement and binding are replaced."""
        found = [
            self._context.cluster.unschedulable(pod)
            for pod in self._own()
            if pod.unschedulable and not pod.gated and not pod.terminating
        ]
        unplaceable = [each for each in found if each is not None]
        self._cache.unschedulable_history, due = unschedulable.decide(
            self._cache.unschedulable_history,
            unplaceable,
            self._context.time(),
            waits=any(not pod.node and not pod.finished for pod in self._own()),
        )
        for each in due:
            log.warning("replacing pod=%s: %s", each.pod.key, each.why)
        await self._writer.together([partial(self._replace, each.pod) for each in due])

    async def _undo_late(self) -> bool:
        """Replace pods whose GPU another operator promised, too, unless they start meanwhile; returns whether there
        were any.
        """
        context = self._context
        late = context.cluster.accounting.late(self._own(), context.gpus, context.pods.heard, context.now())
        found = [pod for pod in self._own() if pod.uid in late]
        for pod in found:
            if await self._replace(pod, only_as_read=True):
                log.warning("replaced pod=%s: %s", pod.key, late[pod.uid])
                event = Event(type="Normal", reason="PromiseUndone", message=late[pod.uid])
                self._cache.report.news.append(event)
        return bool(found)

    async def _replace(self, pod: Pod, *, only_as_read: bool = False) -> bool:
        """Delete a pod, for its Deployment makes another; False if it should be `only_as_read` and has changed, such as
        when it was bound.
        """
        ref, version = api.Ref(api.POD, pod.namespace, pod.name), pod.resource_version if only_as_read else ""
        try:
            await self._context.kube.delete(ref, uid=pod.uid, resource_version=version)
        except api.NotFound:
            self._context.cluster.pods.gone((pod.namespace, pod.name), pod.uid)
        except api.Conflict as error:
            log.info("not replaced: %s", error)
            return False
        else:
            if only_as_read and not pod.node:  # no kubelet has it, so it goes at once
                self._context.cluster.pods.gone((pod.namespace, pod.name), pod.uid)
        return True

    def _own(self) -> list[Pod]:
        return self._context.cluster.pods_of(self._key)
