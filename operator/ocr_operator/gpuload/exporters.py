"""The load of all GPUs, read from DCGM exporter pods one by one.

A Service in front of exporters balances to a random node, so each pod is scraped by its own address. The last
good readings stay, with their time: placement decides how old is too old.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import aiohttp

from ocr_operator.gpuload import dcgm, smoothing
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.gpuload.trust import Trust
from ocr_operator.metrics import Metrics
from ocr_operator.resources.observed import Pod
from ocr_wire import addresses
from ocr_wire.garbage import forget_frames

SCRAPE_SECONDS: Final = 2.0
"""An exporter that takes longer counts as silent; it answers from memory, in milliseconds."""
CONCURRENT: Final = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Scrape:
    node: str
    readings: tuple[GpuReading, ...]


class Exporters:
    """Scrapes `pods()` every `interval` seconds; `readings` is what is known."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        pods: Callable[[], Iterable[Pod]],
        *,
        trust: Trust,
        port: int,
        interval: float,
        now: Callable[[], datetime],
        metrics: Metrics,
        rng: random.Random,
        on_first: Callable[[], None] | None = None,
        on_round: Callable[[], None] | None = None,
    ) -> None:
        self._session = session
        self._pods = pods
        self._trust = trust
        self._port = port
        self._interval = interval
        self._now = now
        self._metrics = metrics
        self._rng = rng
        self._on_first = on_first
        self._on_round = on_round
        self._known: dict[str, _Scrape] = {}
        self._failing: set[str] = set()
        self._refused: dict[str, str] = {}
        """Pod UID → why it isn't believed."""
        self._slots = asyncio.Semaphore(CONCURRENT)
        self._parsing = asyncio.Semaphore(1)

    def said(self) -> dict[str, tuple[GpuReading, ...]]:
        """Map each exporter's UID to what it said last: the same object as long as it says nothing new."""
        return {uid: scrape.readings for uid, scrape in self._known.items()}

    def readings(self) -> list[GpuReading]:
        return [reading for scrape in self._known.values() for reading in scrape.readings]

    async def run(self) -> None:
        while True:
            await self.scrape()
            await asyncio.sleep(self._interval * self._rng.uniform(0.9, 1.1))

    async def scrape(self) -> None:
        """One round over all exporters; none of them can fail it."""
        running = {pod.uid: pod for pod in self._pods() if pod.ip and pod.node and not pod.finished}
        refused = {uid: why for uid, pod in running.items() if (why := self._trust.objection(pod))}
        for uid, why in refused.items():
            if self._refused.get(uid) != why:
                log.warning("not believed as an exporter pod=%s: %s", running[uid].key, why)
        self._refused = refused
        pods = {uid: pod for uid, pod in running.items() if uid not in refused}
        self._known = {uid: scrape for uid, scrape in self._known.items() if uid in pods}
        self._failing &= set(pods)
        async with asyncio.TaskGroup() as tasks:
            for pod in pods.values():
                tasks.create_task(self._scrape(pod))
        self._metrics.gpus.set(len(self.readings()))
        if self._on_round:
            self._on_round()

    async def _scrape(self, pod: Pod) -> None:
        try:
            async with self._slots:
                text = await self._fetch(pod.ip)
            known = self._known.get(pod.uid)
            found = await self._parsed(text, pod.node)
            self._known[pod.uid] = _Scrape(pod.node, smoothing.smooth(known.readings if known else (), found))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._failed(pod, error)
            return
        except Exception as error:
            log.exception("scrape failed pod=%s node=%s", pod.key, pod.node)
            self._failed(pod, error)
            return
        self._metrics.scrapes.labels("read").inc()
        if pod.uid in self._failing:
            self._failing.discard(pod.uid)
            log.info("exporter answers again pod=%s node=%s", pod.key, pod.node)
        if known is None and self._on_first:
            self._on_first()

    async def _parsed(self, text: bytes, node: str) -> list[GpuReading]:
        """Read an answer beside the event loop, one at a time: nothing waits for what exporters cost."""
        at = self._now()
        async with self._parsing:
            return await asyncio.to_thread(dcgm.parse, text, node, at)

    def _failed(self, pod: Pod, error: Exception) -> None:
        self._metrics.scrapes.labels("failed").inc()
        if pod.uid not in self._failing:
            self._failing.add(pod.uid)
            log.warning("exporter silent pod=%s node=%s why=%s", pod.key, pod.node, repr(error)[:300])
        forget_frames(error)

    async def _fetch(self, ip: str) -> bytes:
        body = bytearray()
        async with self._session.get(
            f"{addresses.base_url(ip, self._port)}/metrics",
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=SCRAPE_SECONDS),
        ) as response:
            if response.status != 200:
                raise ValueError(f"/metrics answered {response.status}")
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > dcgm.MAX_BYTES:
                    raise ValueError(f"more than {dcgm.MAX_BYTES} bytes")
        return bytes(body)
