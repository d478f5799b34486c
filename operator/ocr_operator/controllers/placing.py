"""Placement of a resource's gated pods, and the replacement of placed ones that their nodes can't take."""

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime

from ocr_operator.controllers import claims
from ocr_operator.controllers.context import Context, PodWriter, ResourceCache
from ocr_operator.decide import manifests, placement, routing
from ocr_operator.decide.placement import NoFit, NoFitReason, Placement, Request, unschedulable
from ocr_operator.kube import api
from ocr_operator.resources.observed import Pod
from ocr_operator.resources.spec import OcrDeployment
from ocr_wire.live_settings import Envelope

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

    async def place(self, live: Envelope) -> float | None:
        """Place the gated pods; returns the seconds until those that don't fit are tried again."""
        now = self._context.now()
        refused = unschedulable.refused(self._cache.unschedulable_history, self._context.time())
        work = []
        for pod in sorted(self._own(), key=lambda each: each.name):
            if not pod.gated or pod.terminating or pod.finished:
                continue
            await asyncio.sleep(0)  # one choice among thousands of GPUs takes a good part of a second
            request = placement.request(self._resource, pod, refused)
            choice = self._choose(request, now)
            if isinstance(choice, NoFit):
                choice = placement.give_up(request, pod, choice, now) or choice
            match choice:
                case NoFit() as nofit:
                    self.nofits[pod.name] = nofit
                    self._context.metrics.placements.labels("nofit").inc()
                case Placement() as placed:
                    work.append(self._bind(pod, placed, live, now))
        await self._writer.together(work)
        await self._replace_unschedulable()
        waits = bool(self.nofits) or bool(self._cache.unschedulable_history.since)
        return self._context.cluster.retry_seconds if waits else None

    def _choose(self, request: Request, now: datetime) -> Placement | NoFit:
        cluster, states = self._context.cluster, self._context.pods.states()
        return cluster.choose(
            self._key, request, self._context.gpus.readings(cluster.pods, states), states, now
        )

    async def _bind(self, pod: Pod, placed: Placement, live: Envelope, now: datetime) -> None:
        """Send the one patch: annotations, affinity, label, gate. Its promise stays reserved until it is answered."""
        try:
            if placed.sharing == "claim" and not await self._claim(pod, placed):
                return
            self._cache.routing_state, label = routing.place(
                pod, self._resource.spec.routing, self._cache.routing_state
            )
            bound = await self._writer.patch(pod, [*placement.patch(pod, placed, live.to_json(), now), label])
        finally:
            self._context.cluster.release(placed.uid)
        if bound:
            self._context.metrics.placements.labels("placed").inc()
            log.info("placed pod=%s node=%s why=%s", pod.key, placed.node, placed.why)
            self._cache.report.placements.append(placed)

    async def _claim(self, pod: Pod, placed: Placement) -> bool:
        """Make the pod's ResourceClaim; False, with the reason as a refusal, where the API server takes none."""
        try:
            await claims.ensure(
                self._context.kube, manifests.claim(self._resource, pod, [gpu.uuid for gpu in placed.gpus])
            )
        except (api.Refused, api.NotFound) as error:
            text = f"{error}; gpu.sharing: claim needs Kubernetes 1.34 and a DRA driver"
            self.nofits[pod.name] = NoFit(reason=NoFitReason.CLAIM_REFUSED, message=text)
            return False
        return True

    async def _replace_unschedulable(self) -> None:
        """Pods whose node went away, or was filled by others, between placement and binding are replaced."""
        pinned = [
            unschedulable.Unschedulable(pod, *self._context.cluster.pinned_to(pod))
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
            await self._context.kube.delete(api.Ref(api.POD, pod.namespace, pod.name), uid=pod.uid)
        except api.NotFound:
            return

    def _own(self) -> Iterable[Pod]:
        return self._context.cluster.pods_of(self._key)
