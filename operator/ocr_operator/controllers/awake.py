"""The awake set of a resource: the label of each pod that gets requests."""

import logging
from functools import partial
from typing import Final

from ocr_operator.controllers.context import Context, PodWriter, ResourceCache
from ocr_operator.decide import routing
from ocr_operator.pods.unreachable import Unreachable
from ocr_operator.resources.observed import Pod
from ocr_operator.resources.spec import OcrDeployment
from ocr_wire.state import PodState

MEND_SECONDS: Final = 1.0
"""After so long a label that couldn't be written is tried again, if nothing enqueues the resource before."""

log = logging.getLogger(__name__)


class Router:
    """The routing step of one pass."""

    def __init__(
        self,
        context: Context,
        cache: ResourceCache,
        resource: OcrDeployment,
        writer: PodWriter,
    ) -> None:
        self._context, self._links = context, context.pods
        self._cache = cache
        self._resource = resource
        self._key = (resource.namespace, resource.name)
        self._writer = writer

    async def route(self) -> float | None:
        """Label the pods that get requests; returns the seconds until that may change without anything happening."""
        decision, model = self._decide()
        known, self._cache.routing_state = self._cache.routing_state.members, decision.state
        pods = {pod.uid: pod for pod in self._own()}
        for sentence in decision.why:
            log.info("awake set resource=%s/%s why=%s", *self._key, sentence)
        if known:  # the first pod of a resource is no change
            self._cache.report.moved(decision.why)
        why, now = decision.why, self._context.now()
        joins = [
            partial(self._writer.patch, pods[uid], routing.patch(pods[uid], why, now, awake=True))
            for uid in decision.joins
        ]
        joined = await self._writer.together(joins)
        self._context.metrics.awake_labels.labels("joined").inc(joined.count(True))
        # They are decided once, and need no label.
        for uid in decision.wakes:
            self._links.wake(self._key, uid, model)
        for each in decision.helps:
            self._links.help(self._key, each.helped, each.helper, model)
        if not all(joined):
            return MEND_SECONDS  # no pod leaves before those in its place are there
        leaves = [
            partial(self._writer.patch, pods[uid], routing.patch(pods[uid], why, now, awake=False))
            for uid in decision.leaves
        ]
        left = await self._writer.together(leaves)
        self._context.metrics.awake_labels.labels("left").inc(left.count(True))
        return decision.again if all(left) else MEND_SECONDS

    def _decide(self) -> tuple[routing.Decision, str]:
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

    def _own(self) -> list[Pod]:
        return self._context.cluster.pods_of(self._key)
