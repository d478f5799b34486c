"""Reconciling: one pass at a time over each resource.

Level-based: a pass looks at what is, never at what happened, so it may run at any time, twice, or after a crash
at any point, and ends in the same place.
"""

from collections.abc import Callable
from datetime import datetime

from ocr_operator.controllers.children import Children
from ocr_operator.controllers.cluster_state import ClusterState
from ocr_operator.controllers.passes import Context, Pass, ResourceCache
from ocr_operator.controllers.recorder import Recorder
from ocr_operator.controllers.reports import Reporter
from ocr_operator.decide import status
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.pods.client import PodClient
from ocr_operator.resources import effective, spec
from ocr_operator.resources.observed import Key
from ocr_operator.resources.spec import InvalidSpec


class Reconciler:
    """`look` is one pass; the caller sees to it that a resource has one at a time."""

    def __init__(
        self,
        kube: api.Kube,
        cluster: ClusterState,
        pods: PodClient,
        recorder: Recorder,
        *,
        children: Children,
        metrics: Metrics,
        now: Callable[[], datetime],
        time: Callable[[], float],
    ) -> None:
        self._context = Context(
            kube=kube,
            cluster=cluster,
            pods=pods,
            children=children,
            reporter=Reporter(kube, cluster, recorder, metrics=metrics, time=time),
            metrics=metrics,
            now=now,
            time=time,
        )
        self._caches: dict[Key, ResourceCache] = {}
        metrics.awake.set_function(
            lambda: sum(len(each.routing_state.members or ()) for each in self._caches.values())
        )

    async def reconcile(self, key: Key) -> float | None:
        """Seconds until the next look, None for "when something changes". Raises `api.KubeError`."""
        context = self._context
        body = context.cluster.resource(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self._forget(key)
            return None
        cache = self._caches.get(key)
        if cache is None or cache.uid != body["metadata"]["uid"]:
            self._forget(key)
            cache = self._caches[key] = ResourceCache(body["metadata"]["uid"])
        resource = spec.parse(body)
        if isinstance(resource, InvalidSpec):
            context.cluster.set_policy_usage(key, None)
            stalled = status.stalled(body, resource, context.now())
            await context.reporter.write(cache.report, body, stalled, urgent=True)
            await context.reporter.tell(cache.report, body)
            return None
        settings = effective.of(resource, context.cluster.policies_of(body), context.now())
        context.cluster.set_policy_usage(key, settings.policy_usage)
        return await Pass(context, cache, resource, settings, body).run()

    def _forget(self, key: Key) -> None:
        self._context.pods.forget(key)
        if (cache := self._caches.pop(key, None)) is not None:
            self._context.children.forget(cache.uid)
