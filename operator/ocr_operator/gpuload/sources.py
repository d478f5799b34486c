"""All sources of GPU load together: exporters, Prometheus if there is one, and the pods' own measurements."""

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

import aiohttp

from ocr_operator.gpuload import readings
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.gpuload.exporters import Exporters
from ocr_operator.gpuload.merged import MergedReadings
from ocr_operator.gpuload.prometheus import Prometheus
from ocr_operator.gpuload.readings import NO_GPU_NODES
from ocr_operator.gpuload.trust import Trust
from ocr_operator.metrics import Metrics
from ocr_operator.resources.observed import Pod
from ocr_operator.settings import Settings
from ocr_wire.state import PodState

log = logging.getLogger(__name__)


class GpuSources:
    """Reads exporters and Prometheus in the background; `settle` adds what pods measure."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: Settings,
        *,
        exporter_pods: Callable[[], Collection[Pod]],
        namespace_labels: Callable[[str], Mapping[str, str]],
        nodes: Callable[[], Collection[str]],
        on_first: Callable[[], None],
        now: Callable[[], datetime],
        metrics: Metrics,
        rng: random.Random,
    ) -> None:
        """`on_first` is called when an exporter, or Prometheus, has its first answer."""
        self._now = now
        self.gpu_nodes = NO_GPU_NODES
        """Which node has which GPU, as of the last round."""
        trust = Trust(
            owners=frozenset(settings.exporter_owners),
            namespaces=frozenset(settings.exporter_namespace),
            home=settings.identity.partition("/")[0],
            labels=namespace_labels,
        )
        self._merged = MergedReadings()
        self._said: frozenset[str] = frozenset()
        """Sources that aren't pods, as of the last `settle`."""
        self._exporters = Exporters(
            session,
            exporter_pods,
            trust=trust,
            port=settings.exporter_port,
            interval=settings.scrape_seconds,
            now=now,
            metrics=metrics,
            rng=rng,
            on_first=on_first,
            on_round=self._measured,
        )
        self._prometheus: Prometheus | None = None
        if settings.prometheus_url:
            self._prometheus = Prometheus(
                session,
                settings.prometheus_url,
                matchers=settings.prometheus_matchers,
                token_file=settings.prometheus_token_file,
                nodes=nodes,
                exporters=lambda: {pod.key for pod in exporter_pods() if not trust.objection(pod)},
                interval=settings.scrape_seconds,
                metrics=metrics,
                rng=rng,
                on_first=on_first,
                on_round=self._measured,
            )

    def hear(self, uid: str, pod: Pod | None, state: PodState | None) -> None:
        """Take what a pod measures; None for one that is gone, or can't be heard."""
        self._merged.hear(uid, pod, state)

    def settle(self, now: datetime) -> Mapping[str, Sequence[GpuReading]]:
        """Return the best that is known of each GPU now, for those nodes where it changed since the last call: each
        change is returned once.
        """
        said: dict[str, Collection[GpuReading]] = {
            f"exporter/{uid}": each for uid, each in self._exporters.said().items()
        }
        if self._prometheus is not None:
            asked = self._prometheus.readings()
            scraped = [each for one in said.values() for each in one]
            said["prometheus"] = readings.believed(scraped, asked, now) if scraped else asked
        for source in self._said - said.keys():
            self._merged.set(source, ())
        self._said = frozenset(said)
        for source, each in said.items():
            self._merged.set(source, each)
        self._merged.know(self.gpu_nodes)
        return self._merged.settle(now)

    async def first_round(self) -> None:
        await self._exporters.scrape()
        if self._prometheus is not None:
            await self._prometheus.ask()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._exporters.run())
            if self._prometheus is not None:
                tasks.create_task(self._prometheus.run())

    def _of_nodes(self) -> Sequence[GpuReading]:
        scraped = self._exporters.readings()
        return (
            readings.of_nodes(scraped, self._prometheus.readings(), self._now())
            if self._prometheus
            else scraped
        )

    def _measured(self) -> None:
        try:
            self.gpu_nodes = readings.gpu_nodes(self._of_nodes(), self._now(), self.gpu_nodes)
        except Exception:
            log.exception("the nodes of GPUs are as they were")
