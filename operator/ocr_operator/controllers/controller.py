"""The running operator: its parts put together, their tasks, and whether they are alive.

    resources (watch) ─┐
    pods, nodes, children (watches) ─┼─► ClusterState ─► WorkQueue ─► Reconciler ─► API server
    state streams, echoes ─┤   └─► PreemptionController ─► pods
    policies (watch) ─┴─► WorkQueue ─► PolicyController ─► API server

One owner task for each of these, all in one task group: when one ends, the operator ends, and Kubernetes starts
it afresh.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

import aiohttp

from ocr_operator.controllers.children import Children
from ocr_operator.controllers.cluster_state import ClusterState
from ocr_operator.controllers.context import Context
from ocr_operator.controllers.election import Election, LeadershipLost
from ocr_operator.controllers.fence import Fence, lets
from ocr_operator.controllers.ownership import Ownership
from ocr_operator.controllers.policies import PolicyController
from ocr_operator.controllers.preemption import PreemptionController
from ocr_operator.controllers.reconcile import Reconciler
from ocr_operator.controllers.recorder import Recorder
from ocr_operator.controllers.reports import Reporter
from ocr_operator.controllers.series import Series
from ocr_operator.controllers.wave import Wave
from ocr_operator.controllers.workqueue import SPACING_SECONDS, WorkQueue
from ocr_operator.decide.manifests import Defaults
from ocr_operator.decide.preemption import Rules
from ocr_operator.gpuload import trust
from ocr_operator.gpuload.sources import GpuSources
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.pods.client import IDLE_TIMEOUT_SECONDS, PodClient
from ocr_operator.resources.observed import Key
from ocr_operator.settings import Settings

STUCK_PASS_SECONDS: Final = 180.0
"""A pass is a handful of requests of at most 30 s each."""
SILENT_WATCH_SECONDS: Final = 300.0
"""A watch loop gets something every 120 s at the latest, be it that the connection is dead."""
SILENT_OWNER_SECONDS: Final = 30.0
EXPORTERS_SECONDS: Final = 3.0
POLICY_SPACING_SECONDS: Final = 1.0
"""Between two passes over one policy: a hundred resources that change at once are a few writes of its status."""

log = logging.getLogger(__name__)


class Controller:
    """`run` until cancelled."""

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
        replica: str = "",
        idle_timeout: float = IDLE_TIMEOUT_SECONDS,
        on_listed: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; `on_listed` is called once the cluster was listed whole, before this replica works."""
        self._settings = settings
        self._on_listed = on_listed
        self._time = time
        self._begun = float("inf")
        queue = partial(WorkQueue, time=time, rng=rng, metrics=metrics)
        self.queue = queue(
            concurrency=settings.concurrency,
            spacing=SPACING_SECONDS,
            calm=lambda: not self.pods.many_pushes(),
        )
        self.policy_queue = queue(concurrency=4, spacing=POLICY_SPACING_SECONDS)
        metrics.queue.set_function(lambda: len(self.queue))
        self.cluster = ClusterState(
            kube,
            settings,
            queue=self.queue,
            policy_queue=self.policy_queue,
            metrics=metrics,
            time=time,
            now=now,
        )
        self.pods: PodClient = PodClient(
            session,
            on_change=self._pod_changed,
            on_state=self.cluster.accounting.state_changed,
            metrics=metrics,
            rng=rng,
            idle_timeout=idle_timeout,
        )
        Series(self.cluster, self.pods.heard, limit=settings.resource_series, works=self._works).expose(
            metrics
        )
        self.gpus = GpuSources(
            session,
            settings,
            exporter_pods=self.cluster.exporter_pods,
            namespace_labels=self.cluster.namespace_labels,
            nodes=lambda: {node.name for node in self.cluster.nodes},
            on_first=self.cluster.capacity_changed,
            now=now,
            metrics=metrics,
            rng=rng,
        )
        self.election = Election(
            kube,
            lease=api.Ref(api.LEASE, *settings.lease.split("/")) if settings.lease else None,
            replica=replica,
            metrics=metrics,
            now=now,
            time=time,
        )
        kube = Fence(kube, self.election.seconds_left, "its replicas")
        recorder = Recorder(kube, now=now, time=time, metrics=metrics, instance=instance)
        self.ownership = Ownership(
            kube,
            recorder,
            identity=settings.identity,
            namespaces=lambda: settings.watch_namespaces or self.cluster.namespaces_used(),
            on_change=self.cluster.enqueue_namespace,
            metrics=metrics,
            now=now,
            time=time,
        )
        fence = Fence(kube, self.ownership.seconds_left)
        self._wave = Wave(
            settings.upgrades_at_once, enqueue=lambda key: self.cluster.enqueue(key, False), metrics=metrics
        )
        self._children = Children(
            fence,
            self.cluster,
            defaults=Defaults(
                settings.inference_image,
                settings.image_pull_policy or None,
                settings.image_pull_secrets,
                settings.inference_image_cuda,
                settings.inference_image_vllm,
                fixed_user=settings.pod_user == "fixed",
            ),
            wave=self._wave,
            metrics=metrics,
            new_token=partial(secrets.token_urlsafe, 32),
        )
        self._preemption = PreemptionController(
            self.pods,
            self.cluster,
            recorder,
            rules=Rules(
                min_resident_seconds=settings.arbitration_resident_seconds,
                asks_per_minute=settings.arbitration_asks_per_minute,
            ),
            metrics=metrics,
            now=now,
            time=time,
        )
        self._reconciler = Reconciler(
            Context(
                kube=fence,
                cluster=self.cluster,
                pods=self.pods,
                gpus=self.gpus,
                children=self._children,
                wave=self._wave,
                reporter=Reporter(
                    fence,
                    self.cluster,
                    recorder,
                    metrics=metrics,
                    time=time,
                    lateness=self.queue.lateness,
                ),
                metrics=metrics,
                forget=self.queue.forget,
                whose=self.ownership.whose,
                may_write=self._may_write,
                leave_to_scheduler_seconds=settings.leave_to_scheduler_seconds,
                lateness=self.queue.lateness,
                many_pushes=self.pods.many_pushes,
                now=now,
                time=time,
            )
        )
        self._policies = PolicyController(
            kube, self.cluster, forget=self.policy_queue.forget, metrics=metrics, now=now, time=time
        )

    def _may_write(self, namespace: str) -> bool:
        return all(lets(each.seconds_left(namespace)) for each in (self.election, self.ownership))

    async def run(self) -> None:
        """Run until cancelled, or until another replica works."""
        try:
            await self._run()
        except* LeadershipLost as lost:
            log.warning("%s: this one begins afresh", lost.exceptions[0])
        finally:
            await self.election.give_back()

    async def _run(self) -> None:
        """Decide nothing before every informer has listed once: half a view would look like lost children."""
        async with asyncio.TaskGroup() as tasks:
            for each in (*self.cluster.informers, *self.cluster.exporters):
                tasks.create_task(each.run())
            for each in self.cluster.informers:
                await each.synced.wait()
            log.info("watches are up")
            self._on_listed()
            tasks.create_task(self.election.run())
            await self.election.begun.wait()
            self._begun = self._time()
            tasks.create_task(self.pods.run())
            if self._settings.watch_namespaces and not self._settings.counts_all_pods:
                log.info(
                    "pods of other namespaces than %s aren't seen: what they take of nodes is left to the "
                    "scheduler, and what they were promised of GPUs doesn't count",
                    ", ".join(self._settings.watch_namespaces),
                )
                if not set(self._settings.exporter_namespace) - {trust.EVERYWHERE}:
                    log.info(
                        "nor are exporters in other namespaces: OCR_OPERATOR_EXPORTER_NAMESPACE has to name theirs"
                    )
            await self._first_scrape()
            tasks.create_task(self.gpus.run())
            tasks.create_task(self._resync())
            tasks.create_task(self.ownership.run())
            self._wave.begin(self.cluster.keys(), self.cluster.child_deployments())
            tasks.create_task(self.queue.run(self._reconciler.reconcile))
            tasks.create_task(self.policy_queue.run(self._policies.reconcile))
            tasks.create_task(self._preemption.run())

    def ready(self) -> bool:
        """Return whether the cluster was listed whole."""
        return all(each.synced.is_set() for each in self.cluster.informers)

    def note(self) -> str:
        """Say in lines what keeps this process from working, everywhere or in some namespaces."""
        return "\n".join(filter(None, (self.election.note(), self.ownership.note())))

    def _works(self) -> bool:
        return self._begun != float("inf")

    def unhealthy_reason(self) -> str:
        """Name what hangs, so that only a restart helps; empty while all is well, or the API server is away."""
        now = self._time()
        silent = SILENT_OWNER_SECONDS + self._settings.scrape_seconds
        if now - max(self.queue.last_heartbeat, self._begun) > silent:
            return "the owner loop hangs"
        if max(self.queue.longest_pass(), self.policy_queue.longest_pass()) > STUCK_PASS_SECONDS:
            return "a pass over a resource or policy hangs"
        for each in (*self.cluster.informers, *self.cluster.exporters):
            if now - each.last_heartbeat > SILENT_WATCH_SECONDS:
                return f"the watch of {each.kind.plural} hangs"
        return ""

    def _pod_changed(self, key: Key, urgent: bool) -> None:
        self.cluster.enqueue(key, urgent)
        self._preemption.pods_changed(key)

    async def _first_scrape(self) -> None:
        """Placement is better with it, and works without: exporters may be absent, or not ours to see."""
        try:
            async with asyncio.timeout(EXPORTERS_SECONDS):
                for each in self.cluster.exporters:
                    await each.synced.wait()
        except TimeoutError:
            log.warning("no exporters are found within %g s: placement goes by allocation", EXPORTERS_SECONDS)
        await self.gpus.first_round()

    async def _resync(self) -> None:
        """Enqueue every resource once in a period, spread over it."""
        while True:
            keys = self.cluster.keys()
            began = self._time()
            for index, key in enumerate(keys):
                due = began + self._settings.resync_seconds * (index + 1) / len(keys)
                await asyncio.sleep(max(0.0, due - self._time()))
                if (body := self.cluster.resource(key)) is not None:
                    self._children.doubt_secret(body["metadata"]["uid"])
                    self.queue.enqueue(key)
            if not keys:
                await asyncio.sleep(self._settings.resync_seconds)
