"""Reconciling: one pass at a time over each resource.

Level-based: a pass looks at what is, never at what happened, so it may run at any time, twice, or after a crash
at any point, and ends in the same place.
"""

from collections.abc import Callable
from datetime import datetime

from ocr_operator.controllers.children import Children
from ocr_operator.controllers.cluster_state import World
from ocr_operator.controllers.passes import Hands, Memory, Pass
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
        world: World,
        pods: PodClient,
        recorder: Recorder,
        *,
        children: Children,
        metrics: Metrics,
        now: Callable[[], datetime],
        time: Callable[[], float],
    ) -> None:
        self._hands = Hands(
            kube=kube,
            world=world,
            pods=pods,
            children=children,
            reporter=Reporter(kube, world, recorder, metrics=metrics, time=time),
            metrics=metrics,
            now=now,
            time=time,
        )
        self._memories: dict[Key, Memory] = {}
        metrics.awake.set_function(
            lambda: sum(len(each.route.members or ()) for each in self._memories.values())
        )

    async def look(self, key: Key) -> float | None:
        """Seconds until the next look, None for "when something changes". Raises `api.KubeError`."""
        hands = self._hands
        body = hands.world.resource(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self._forget(key)
            return None
        memory = self._memories.get(key)
        if memory is None or memory.uid != body["metadata"]["uid"]:
            self._forget(key)
            memory = self._memories[key] = Memory(body["metadata"]["uid"])
        resource = spec.parse(body)
        if isinstance(resource, InvalidSpec):
            hands.world.stands(key, None)
            stalled = status.stalled(body, resource, hands.now())
            await hands.reporter.write(memory.report, body, stalled, urgent=True)
            await hands.reporter.tell(memory.report, body)
            return None
        settings = effective.of(resource, hands.world.policies_of(body), hands.now())
        hands.world.stands(key, settings.standing)
        return await Pass(hands, memory, resource, settings, body).run()

    def _forget(self, key: Key) -> None:
        self._hands.pods.forget(key)
        if (memory := self._memories.pop(key, None)) is not None:
            self._hands.children.forget(memory.uid)
