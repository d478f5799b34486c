"""All sources of GPU load together: exporters, Prometheus if there is one, and the pods' own measurements."""

import asyncio
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

import aiohttp

from ocr_operator.gpuload import readings
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.gpuload.exporters import Exporters
from ocr_operator.gpuload.prometheus import Prometheus
from ocr_operator.gpuload.readings import NO_GPU_NODES
from ocr_operator.metrics import Metrics
from ocr_operator.resources.observed import Pod
from ocr_operator.settings import Settings
from ocr_wire.state import PodState


class GpuSources:
    """Reads exporters and Prometheus in the background; `readings` adds what pods measure."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: Settings,
        *,
        exporter_pods: Callable[[], Collection[Pod]],
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
        self._exporters = Exporters(
            session,
            exporter_pods,
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
                token_file=settings.prometheus_token_file,
                nodes=nodes,
                exporters=lambda: {pod.key for pod in exporter_pods()},
                interval=settings.scrape_seconds,
                metrics=metrics,
                rng=rng,
                on_first=on_first,
                on_round=self._measured,
            )

    def readings(self, pods: Iterable[Pod], states: Mapping[str, PodState]) -> list[GpuReading]:
        """Return the best that is known of each GPU at this moment; `states` are the pods' by UID."""
        now = self._now()
        return readings.merge((*self._of_nodes(), *readings.of_pods(pods, states, now)), now)

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
        return (*self._exporters.readings(), *(self._prometheus.readings() if self._prometheus else ()))

    def _measured(self) -> None:
        self.gpu_nodes = readings.gpu_nodes(self._of_nodes())
