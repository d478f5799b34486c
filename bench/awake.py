"""What the awake set is worth: how long models stay on GPUs, and what requests wait, under `warmFirst` and `all`.

The same arrivals go through the Service under each policy. The pods are real inference servers on simulated GPUs whose
engine, `fake`, takes declared times and no CPU: four pods that read at once would share the cores.
"""

import asyncio
import contextlib
import io
import json
import random
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
from PIL import Image

from bench import control, fakepods, report, server
from devcluster.cluster import Cluster
from ocr_wire import names
from ocr_wire.states import Location

PODS: Final = 4
SECONDS: Final = {"sparse": 70.0, "bursty": 30.0, "steady": 30.0}
"""Of each trace."""
ROUNDS: Final = {"bursty": 3}
"""Times that a trace is replayed under each policy, by turns; once if it isn't here. The slowest of 60 pages is a
matter of chance, since a Service chooses by chance."""
SPARSE_MEAN: Final = 0.65
"""Seconds between requests: more than a hundred, so that the 99th percentile isn't the worst one."""
SEED: Final = 20_261_125
OFFLOAD_AFTER: Final = 15
"""Seconds: a quarter of the default, as the traces are four times as dense as those they stand for."""
ROUTING: Final = {"maxQueuePerPod": 4, "minAwake": 0}
LONGER: Final = 8
"""`maxQueuePerPod` with which bursts are replayed, too: longer queues, and fewer pods awake."""
MOST_P99, MOST_RESIDENCY = 1.15, 0.7
"""Of bursts with that, against `all`."""
PATIENCE: Final = 60.0

ENGINE: Final = {"load_seconds": 5.0, "restore_seconds": 0.4, "offload_seconds": 0.1, "infer_seconds": 0.15}
MANIFEST: Final = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": control.NAME},
    "spec": {
        "replicas": PODS,
        "models": [{"name": fakepods.MODEL, "engine": "rapidocr", "gpuMemory": "1Gi"}],
        "gpu": {"sharing": "shared"},
        "batching": {"maxPages": 1},
        "queue": {"limit": 1000},
        "idle": server.NO_TIMERS | {"offloadAfterSeconds": OFFLOAD_AFTER},
        "routing": ROUTING | {"policy": "all"},
        "template": fakepods.template(),
    },
}


def traces() -> dict[str, list[float]]:
    """When requests come, in seconds from the start; the same in every run."""
    rng = random.Random(SEED)
    sparse, at = [], rng.expovariate(1 / SPARSE_MEAN)
    while at < SECONDS["sparse"]:
        sparse.append(at)
        at += rng.expovariate(1 / SPARSE_MEAN)
    bursts = [
        10.0 * burst + rng.random() / 2 for burst in range(int(SECONDS["bursty"] / 10)) for _ in range(20)
    ]
    return {
        "sparse": sparse,
        "bursty": sorted(bursts),
        "steady": [index / 8 for index in range(int(SECONDS["steady"] * 8))],
    }


def page() -> bytes:
    out = io.BytesIO()
    Image.new("L", (64, 48), "white").save(out, "PNG")
    return out.getvalue()


class Residence(control.Watched):
    """How long the model of one pod has been on its GPU, by the pod's own state stream."""

    def __init__(self) -> None:
        super().__init__()
        self._since: float | None = None
        self._sum = 0.0

    def put(self, value: dict[str, Any]) -> None:
        self.begin(self.seconds())
        self._since = time.monotonic() if value["models"][0]["location"] == Location.GPU else None
        super().put(value)

    def begin(self, seconds: float = 0.0) -> None:
        """Count from here."""
        self._sum = seconds
        self._since = None if self._since is None else time.monotonic()

    def seconds(self) -> float:
        return self._sum + (0.0 if self._since is None else time.monotonic() - self._since)


class Run:
    """One resource with four ready pods."""

    def __init__(self, cluster: Cluster, http: aiohttp.ClientSession) -> None:
        self._cluster = cluster
        self._http = http
        self._api = control.Api(cluster, http)
        self._page = page()
        self._token = ""
        self._pods: dict[str, Residence] = {}
        """By address."""

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        self._pods = {address: Residence() for address in await self._api.addresses()}
        self._token = await self._api.token(control.NAME)
        streams = [control.follow(self._http, address, pod) for address, pod in self._pods.items()]
        async with control.background(*streams):
            for address in self._pods:
                await server.read(self._http, control.url_of(address), self._page)
            yield

    async def replay(
        self, policy: str, bar: int, arrivals: Sequence[float], seconds: float
    ) -> tuple[list[float], float]:
        """Latencies, and pod-seconds on a GPU from the beginning until all are answered and the seconds are over."""
        await self._prepare(policy, bar)
        url = f"http://{await self._service()}"
        began = time.monotonic()
        for pod in self._pods.values():
            pod.begin()

        async def one(at: float) -> float:
            await asyncio.sleep(began + at - time.monotonic())
            return await server.read(self._http, url, self._page)

        latencies = await asyncio.gather(*(one(at) for at in arrivals))
        await asyncio.sleep(began + seconds - time.monotonic())
        return list(latencies), sum(pod.seconds() for pod in self._pods.values())

    async def _prepare(self, policy: str, bar: int) -> None:
        """All models in host memory, and the set as it is when nobody has asked for long."""
        await self._api.merge(
            control.RESOURCE,
            {"spec": {"routing": {"policy": policy, "maxQueuePerPod": bar, "stabilizationSeconds": 0}}},
        )
        wanted = PODS if policy == "all" else 1
        async with asyncio.timeout(PATIENCE):
            while (await self._api.get(control.RESOURCE))["status"].get("awakeReplicas") != wanted:  # noqa: ASYNC110  in a cluster
                await asyncio.sleep(0.2)
        await self._api.merge(control.RESOURCE, {"spec": {"routing": {"stabilizationSeconds": 8}}})
        headers = {"Authorization": f"Bearer {self._token}"}
        for address, pod in self._pods.items():
            await control.post(self._http, control.url_of(address) + names.PATH_OFFLOAD, headers)
            await pod.until(control.holds(Location.CPU))
        await asyncio.sleep(1)

    async def _service(self) -> str:
        async with asyncio.timeout(PATIENCE):
            while (found := self._cluster.service(control.NAME)) is None:  # noqa: ASYNC110  a file of another process
                await asyncio.sleep(0.1)
        return found


async def measure() -> report.Result:
    with tempfile.TemporaryDirectory() as folder:
        cluster = await asyncio.to_thread(
            Cluster.start, Path(folder) / "cluster", nodes=2, gpus=2, operator=True
        )
        with cluster:
            for body in (fakepods.config_map(ENGINE), MANIFEST):
                await asyncio.to_thread(cluster.kubectl, "apply", "-f", "-", stdin=json.dumps(body))
            ready = ("wait", f"ocr/{control.NAME}", "--for=condition=Ready", "--timeout=90s")
            await asyncio.to_thread(cluster.kubectl, *ready)
            # A connection for each request, as clients of their own have: a Service chooses a pod per connection.
            connector = aiohttp.TCPConnector(force_close=True, limit=0)
            async with aiohttp.ClientSession(connector=connector) as http:
                run = Run(cluster, http)
                async with run.following():
                    return await compare(run)


def judged(trace: str, bar: int, residency: float, latency: float) -> list[report.Row]:
    """Return the two ratios of a trace, with the targets of those that have some."""
    longer = f" with maxQueuePerPod {bar}" if bar == LONGER else ""
    what = f"{trace}: residency, warmFirst{longer} ÷ all", f"{trace}: p99, warmFirst{longer} ÷ all"
    if trace == "sparse":
        limits = 1 / 3, 1.2
    elif longer:
        limits = MOST_RESIDENCY, MOST_P99
    else:
        return [report.plain(what[0], residency, "×"), report.plain(what[1], latency, "×")]
    return [
        report.at_most(what[0], residency, "×", limits[0]),
        report.at_most(what[1], latency, "×", limits[1]),
    ]


async def compare(run: Run) -> report.Result:
    rows: list[report.Row] = []
    samples: dict[str, Sequence[float]] = {}
    for name, arrivals in traces().items():
        bars = (ROUTING["maxQueuePerPod"], *((LONGER,) if name == "bursty" else ()))
        cases = (("all", bars[0]), *(("warmFirst", each) for each in bars))
        held, latencies = dict.fromkeys(cases, 0.0), {case: list[float]() for case in cases}
        for _ in range(ROUNDS.get(name, 1)):
            for case in cases:
                measured, seconds = await run.replay(*case, arrivals, SECONDS[name])
                latencies[case] += measured
                held[case] += seconds
        slow = {case: report.percentile(each, 0.99) for case, each in latencies.items()}
        for policy, bar in cases:
            each = latencies[policy, bar]
            longer = "" if bar == bars[0] else f" with maxQueuePerPod {bar}"
            samples[f"{name}_{policy}{'_longer' if longer else ''}_seconds"] = each
            what = f"{name}, {policy}{longer}"
            rows.append(report.plain(f"{what}: pod-seconds on a GPU", held[policy, bar], "s"))
            rows.append(report.plain(f"{what}: latency p50", report.percentile(each, 0.5) * 1000, "ms"))
            rows.append(report.plain(f"{what}: latency p99", slow[policy, bar] * 1000, "ms"))
        base = "all", bars[0]
        for bar in bars:
            residency = held["warmFirst", bar] / held[base]
            latency = slow["warmFirst", bar] / slow[base]
            rows += judged(name, bar, residency, latency)
    method = (
        f"devcluster with the Helm-installed operator as a pod, {PODS} inference servers on simulated GPUs, client and"
        " service proxy, all on this machine. The engine is fake, with declared times:"
        f" {', '.join(f'{what} {seconds:g}' for what, seconds in ENGINE.items())}. Each request has a connection of its"
        f" own through the Service. Three traces, seed {SEED}: sparse ({SECONDS['sparse']:g} s, Poisson, every"
        f" {SPARSE_MEAN} s), bursty ({SECONDS['bursty']:g} s, 20 requests within half a second, every 10 s), steady"
        f" ({SECONDS['steady']:g} s, 8 a second, more than one pod can do); each under `all` and under `warmFirst`"
        f" (bursts {ROUNDS['bursty']} times, by turns), beginning with all models in host memory. offloadAfterSeconds"
        f" {OFFLOAD_AFTER}, maxQueuePerPod {ROUTING['maxQueuePerPod']} (bursts also with {LONGER}),"
        " stabilizationSeconds 8, maxPages 1. Residency is the sum over the pods of the time that their state streams"
        " say gpu."
    )
    return report.Result("awake", method, tuple(rows), samples)
