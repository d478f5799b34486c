"""The running operator: who wakes whom, what is retried when, and whether it is alive.

    resources (kopf) ─┐
    pods, nodes, children (watches) ─┼─► World ─► Wakeups ─► Reconciler.look ─► API server
    state streams, echoes ─┤   └─► Arbiter ─► pods
    policies (watch) ─┴─► Wakeups ─► Fleet.look ─► API server

One owner task for each of these, all in one task group: when one ends, the operator ends, and Kubernetes starts
it afresh.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final, Literal

import aiohttp

from ocr_operator.controllers.children import Children
from ocr_operator.controllers.cluster_state import ClusterState
from ocr_operator.controllers.policies import PolicyController
from ocr_operator.controllers.preemption import PreemptionController
from ocr_operator.controllers.reconcile import Reconciler
from ocr_operator.controllers.recorder import Recorder
from ocr_operator.controllers.workqueue import WorkQueue
from ocr_operator.decide.manifests import Defaults
from ocr_operator.decide.preemption import Rules
from ocr_operator.gpuload import readings
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.gpuload.exporters import Exporters
from ocr_operator.gpuload.prometheus import Prometheus
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.pods.client import IDLE_TIMEOUT_SECONDS, PodClient
from ocr_operator.resources.observed import Key
from ocr_operator.settings import Settings

MAX_BACKOFF_SECONDS: Final = 60.0
STUCK_PASS_SECONDS: Final = 180.0
"""A pass is a handful of requests of at most 30 s each."""
SILENT_WATCH_SECONDS: Final = 300.0
"""A watch loop hears of something every 120 s at the latest, be it that the connection is dead."""
SILENT_OWNER_SECONDS: Final = 30.0
EXPORTERS_SECONDS: Final = 3.0
POLICY_SPACING_SECONDS: Final = 1.0
"""Between two passes over one policy: a hundred resources that change at once are a few writes of its status."""

log = logging.getLogger(__name__)

Change = Literal["ADDED", "MODIFIED", "DELETED"]


class Controller:
    """`run` until cancelled; `observe` feeds it the resources."""

    def __init__(
        self,
        kube: api.Kube,
        session: aiohttp.ClientSession,
        settings: Settings,
        *,
        metrics: Metrics,
        now: Callable[[], datetime],
        time: Callable[[], float],
        rng: random.Random,
        instance: str = "",
        idle_timeout: float = IDLE_TIMEOUT_SECONDS,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._time = time
        self._rng = rng
        self._failures: dict[Key, int] = {}
        self.queue = WorkQueue(self._reconcile, concurrency=settings.concurrency, time=time)
        metrics.queue.set_function(lambda: len(self.queue))
        self.cluster = ClusterState(kube, settings, enqueue=self._enqueue, metrics=metrics, time=time)
        self.pods = PodClient(
            session,
            on_change=self._pod_changed,
            metrics=metrics,
            rng=rng,
            idle_timeout=idle_timeout,
        )
        self.exporters = Exporters(
            session,
            self.cluster.exporter_pods,
            port=settings.exporter_port,
            interval=settings.scrape_seconds,
            now=now,
            metrics=metrics,
            rng=rng,
            on_first=self.cluster.capacity_changed,
            on_round=self._measured,
        )
        self.prometheus = self._prometheus(session, settings)
        self._now = now
        self.cluster.readings, self.cluster.states = self._readings, self.pods.states
        self._children = Children(
            kube,
            self.cluster,
            defaults=Defaults(settings.inference_image, settings.image_pull_policy or None),
            metrics=metrics,
            new_token=partial(secrets.token_urlsafe, 32),
        )
        recorder = Recorder(kube, now=now, metrics=metrics, instance=instance)
        self.preemption = PreemptionController(
            self.pods,
            self.cluster,
            recorder,
            rules=Rules(
                min_resident_seconds=settings.arbitration_resident_seconds,
                asks_per_minute=settings.arbitration_asks_per_minute,
            ),
            metrics=metrics,
            now=now,
        )
        self._reconciler = Reconciler(
            kube,
            self.cluster,
            self.pods,
            recorder,
            children=self._children,
            metrics=metrics,
            now=now,
            time=time,
        )

        self._policy_controller = PolicyController(kube, self.cluster, metrics=metrics, now=now)
        self.policies = WorkQueue(
            self._reconcile_policy, concurrency=4, time=time, spacing=POLICY_SPACING_SECONDS
        )
        self.cluster.on_policy_change = lambda name: self.policies.enqueue(("", name))

    def observe(self, change: Change | None, body: api.Json) -> None:
        """A resource, as its watch brings it; `change` is None for what was there before."""
        if change == "DELETED":
            self.cluster.remove_resource(body)
        else:
            self.cluster.put_resource(body)

    async def run(self) -> None:
        """Nothing is decided before every mirror was listed once: half a view would look like lost children."""
        async with asyncio.TaskGroup() as tasks:
            for each in (*self.cluster.informers, *self.cluster.exporters):
                tasks.create_task(each.run())
            tasks.create_task(self.pods.run())
            for each in self.cluster.informers:
                await each.synced.wait()
            log.info("watches are up")
            await self._first_scrape()
            tasks.create_task(self.exporters.run())
            if self.prometheus is not None:
                tasks.create_task(self.prometheus.run())
            tasks.create_task(self._resync())
            tasks.create_task(self.queue.run())
            tasks.create_task(self.policies.run())
            tasks.create_task(self.preemption.run())

    def _prometheus(self, session: aiohttp.ClientSession, settings: Settings) -> Prometheus | None:
        if not settings.prometheus_url:
            return None
        return Prometheus(
            session,
            settings.prometheus_url,
            token_file=settings.prometheus_token_file,
            nodes=lambda: {node.name for node in self.cluster.nodes},
            exporters=lambda: {pod.key for pod in self.cluster.exporter_pods()},
            interval=settings.scrape_seconds,
            metrics=self._metrics,
            rng=self._rng,
            on_first=self.cluster.capacity_changed,
            on_round=self._measured,
        )

    def _readings(self) -> list[GpuReading]:
        """The best that is known of each GPU at this moment."""
        now = self._now()
        reported = readings.of_pods(self.cluster.pods, self.pods.states(), now)
        return readings.merge((*self._of_nodes(), *reported), now)

    def _of_nodes(self) -> Sequence[GpuReading]:
        return (*self.exporters.readings(), *(self.prometheus.readings() if self.prometheus else ()))

    def _measured(self) -> None:
        self.cluster.gpu_nodes = readings.gpu_nodes(self._of_nodes())

    async def _first_scrape(self) -> None:
        """Placement is better with it, and works without: exporters may be absent, or not ours to see."""
        try:
            async with asyncio.timeout(EXPORTERS_SECONDS):
                for each in self.cluster.exporters:
                    await each.synced.wait()
        except TimeoutError:
            log.warning("no exporters are found within %g s: placement goes by allocation", EXPORTERS_SECONDS)
        await self.exporters.scrape()
        if self.prometheus is not None:
            await self.prometheus.ask()

    def ready(self) -> bool:
        """The cluster was seen whole."""
        return all(each.synced.is_set() for each in self.cluster.informers)

    def unhealthy_reason(self) -> str:
        """What hangs, so that only a restart helps; empty while all is well, or the API server is away."""
        now = self._time()
        if (
            self.ready()
            and now - self.queue.last_heartbeat > SILENT_OWNER_SECONDS + self._settings.scrape_seconds
        ):
            return "the owner loop hangs"
        if max(self.queue.longest_pass(), self.policies.longest_pass()) > STUCK_PASS_SECONDS:
            return "a pass over a resource or policy hangs"
        for each in (*self.cluster.informers, *self.cluster.exporters):
            if now - each.last_heartbeat > SILENT_WATCH_SECONDS:
                return f"the watch of {each.kind.plural} hangs"
        return ""

    def _enqueue(self, key: Key, urgent: bool) -> None:
        if self.cluster.resource(key) is not None or key in self._failures or urgent:
            self.queue.enqueue(key, urgent=urgent)

    def _pod_changed(self, key: Key, urgent: bool) -> None:
        self._enqueue(key, urgent)
        self.preemption.pods_changed(key)

    async def _reconcile(self, key: Key) -> float | None:
        with self._metrics.reconcile_seconds.time():
            again = await self._attempt(self._reconciler.reconcile, key)
        if self.cluster.resource(key) is None:
            self.queue.forget(key)
        return again

    async def _reconcile_policy(self, key: Key) -> float | None:
        again = await self._attempt(self._policy_controller.reconcile, key)
        if self.cluster.policies.get(key) is None:
            self.policies.forget(key)
        return again

    async def _attempt(self, reconcile: Callable[[Key], Awaitable[float | None]], key: Key) -> float | None:
        """A pass, and what to do when it fails: nothing escapes but cancellation."""
        try:
            again = await reconcile(key)
        except api.KubeError as error:
            return self._failed(key, error)
        except Exception as error:
            log.exception("pass failed resource=%s/%s", *key)
            return self._failed(key, error)
        self._metrics.reconciles.labels("done").inc()
        if self._failures.pop(key, 0):
            log.info("pass works again resource=%s/%s", *key)
        return again

    def _failed(self, key: Key, error: Exception) -> float:
        """The growing delay until the next pass. A conflict is no failure: the newest state is here already."""
        conflict = isinstance(error, api.Conflict)
        self._metrics.reconciles.labels("conflict" if conflict else "failed").inc()
        self._failures[key] = failures = self._failures.get(key, 0) + 1
        if conflict and failures < 5:
            return 0.0
        if failures == 1:
            log.warning("pass failed resource=%s/%s error=%s", *key, error)
        asked = (error.retry_after if isinstance(error, api.KubeError) else None) or 0.0
        grown = min(MAX_BACKOFF_SECONDS, 0.5 * 2.0 ** min(failures - 1, 10))
        return max(asked, grown * self._rng.uniform(0.5, 1.0))

    async def _resync(self) -> None:
        """Spread over the period, so that a thousand resources don't come at once."""
        while True:
            keys = self.cluster.keys()
            began = self._time()
            for index, key in enumerate(keys):
                due = began + self._settings.resync_seconds * (index + 1) / len(keys)
                await asyncio.sleep(max(0.0, due - self._time()))
                if (body := self.cluster.resource(key)) is not None:
                    self._children.forget(body["metadata"]["uid"])
                    self.queue.enqueue(key)
            if not keys:
                await asyncio.sleep(self._settings.resync_seconds)
