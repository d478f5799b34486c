"""A thousand resources: what the operator adds to a cold start, a restart and a policy for all, and what it takes.

`BENCH_SCALE_RESOURCES`, `BENCH_SCALE_PODS` (of all), `BENCH_SCALE_NODES` and `BENCH_SCALE_SECONDS` are other sizes, and
other bounds of time; what isn't measured by then is missed. Other sizes have results of their own.
"""

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench import playedfleet, report, scaleprocess
from bench.control import Api
from bench.playedfleet import PlayedPods, Pod, Statuses
from devcluster.cluster import Cluster
from ocr_operator.decide import manifests
from ocr_operator.decide.manifests import Defaults
from ocr_operator.kube.api import kind_of
from ocr_operator.resources import spec
from ocr_wire import names
from tests.support import fakepod

RESOURCES: Final = int(os.environ.get("BENCH_SCALE_RESOURCES", "1000"))
PODS: Final = int(os.environ.get("BENCH_SCALE_PODS", "2000"))
NODES: Final = int(os.environ.get("BENCH_SCALE_NODES", "1000"))
SECONDS: Final = float(os.environ.get("BENCH_SCALE_SECONDS", "900"))
NAMESPACES: Final = 10
REST_SECONDS: Final = 30.0
SETTLE_SECONDS: Final = 10.0
CHANGES: Final = 10
RESTARTS: Final = 3
WIDE_PODS: Final = 100
WIDE_CHANGES: Final = 20
FOREVER: Final = 24 * 3600
CRDS: Final = Path(__file__).parents[1] / "crds"
POLICIES: Final = f"/apis/{names.API_VERSION}/{names.POLICY_PLURAL}"
POLICY: Final = f"{POLICIES}/fleet"
Key = tuple[str, str]


def key(number: int) -> Key:
    return f"team-{number % NAMESPACES}", f"r{number}"


def path(namespace: str, name: str = "") -> str:
    return f"/apis/{names.API_VERSION}/namespaces/{namespace}/{names.PLURAL}" + (f"/{name}" if name else "")


@dataclass
class Fleet:
    """One cluster with everything that plays or watches on it."""

    cluster: Cluster
    folder: Path
    api: Api
    pods: PlayedPods
    statuses: Statuses
    port: int
    replicas: int

    async def add_resources(self, numbers: Iterable[int]) -> None:
        async def add(number: int) -> None:
            namespace, name = key(number)
            await self.api.create(path(namespace), self.manifest(namespace, name, self.replicas))

        await playedfleet.each(numbers, add)

    def manifest(self, namespace: str, name: str, replicas: int, fleet: str = "yes") -> dict[str, Any]:
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "namespace": namespace, "labels": {"fleet": fleet}},
            "spec": {
                "replicas": replicas,
                "models": [{"name": playedfleet.MODEL, "engine": "rapidocr"}],
                "gpu": {"sharing": "exclusive"},
                "server": {"port": self.port},
            },
        }

    async def add_children(self) -> None:
        """Write the children as the operator would, without the gate."""
        listed = (await self.api.get(f"/apis/{names.API_VERSION}/{names.PLURAL}"))["items"]

        async def add(body: dict[str, Any]) -> None:
            resource = spec.parse(body | {"apiVersion": names.API_VERSION, "kind": names.KIND})
            assert isinstance(resource, spec.OcrDeployment)
            budget = manifests.wants_budget(resource, ())
            for child in manifests.desired(resource, Defaults("played:1", None), "token", with_budget=budget):
                child.get("spec", {}).get("template", {}).get("spec", {}).pop("schedulingGates", None)
                kind = kind_of(child)
                await self.api.create(f"{kind.root}/namespaces/{resource.namespace}/{kind.plural}", child)

        await playedfleet.each(listed, add)

    async def policy_change(self, seconds: int, resources: int) -> float:
        """Set the policy's timeout; returns the seconds until the last pod of all works by it."""
        began = time.monotonic()
        await self.api.merge(POLICY, {"spec": {"idle": {"offloadAfterSeconds": seconds}}})
        count = resources * self.replicas

        def all_work_by(pods: Iterable[Pod]) -> bool:
            fleet = [pod for pod in pods if pod.resource[0] != "default"]
            return len(fleet) >= count and all(pod.works_by(seconds) for pod in fleet)

        await self.pods.until(all_work_by)
        return time.monotonic() - began

    @contextlib.asynccontextmanager
    async def operator(self) -> AsyncIterator[scaleprocess.OperatorProcess]:
        async with scaleprocess.running(self.cluster, self.folder) as process:
            yield process


@contextlib.asynccontextmanager
async def fleet(resources: int, replicas: int, nodes: int = NODES) -> AsyncIterator[Fleet]:
    """A control plane with nodes and resources, and no operator yet."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "cluster"
        start = asyncio.to_thread(Cluster.start, directory, definitions=CRDS, node_grace_seconds=FOREVER)
        cluster = await start
        with cluster:
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(connector=connector) as http:
                api, port = Api(cluster, http), fakepod.free_port()
                pods, statuses = PlayedPods(api, port), Statuses(api)
                await playedfleet.add_nodes(api, nodes)
                for number in range(NAMESPACES):
                    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"team-{number}"}}
                    await api.create("/api/v1/namespaces", body)
                found = Fleet(cluster, Path(folder), api, pods, statuses, port, replicas)
                await found.add_resources(range(resources))
                watch = asyncio.create_task(statuses.run())
                try:
                    async with pods.running():
                        yield found
                finally:
                    watch.cancel()


@dataclass
class Found:
    """What was measured so far."""

    rows: list[report.Row] = field(default_factory=list)
    samples: dict[str, Sequence[float]] = field(default_factory=dict)


async def measure() -> report.Result:
    found = Found()
    end_in_order()
    load = os.getloadavg()[0]
    found.rows.append(report.plain("load of the machine before", load, ""))
    try:
        async with asyncio.timeout(SECONDS):
            alone = await without_operator()
            await with_operator(found, alone)
    except TimeoutError:
        found.rows.append(report.Row(f"measured within {SECONDS:g} s", 0, "", "all", met=False))
    method = (
        f"Real control plane, and the operator's own process with its Leases; {NODES} nodes of {playedfleet.GPUS} GPUs"
        f" are objects only, and the servers of all pods are one process at addresses of their own. {RESOURCES}"
        f" resources with exclusive GPUs in {NAMESPACES} namespaces, {PODS} pods. Cold start: the resources are there;"
        " from the operator's start until each status shows the place of each pod's model. Gate absent: another"
        " cluster, without the operator, on which the same children are written with no gate, until all pods are ready."
        f" At rest: {REST_SECONDS:g} s of it. Loop lag: by how much timers of 20 ms are late in the operator's loop."
        f" Restart: SIGTERM, a replica more for a resource, and from the next process's start until its pod is placed."
        " Policy and patch: from sending the PATCH until the last pod has taken it; the first policy of a process that"
        " hasn't written those statuses yet stands by itself. Times of all processes share the"
        " machine's cores."
    )
    return report.Result("scale", method, found.rows, found.samples, variant=variant())


def variant() -> str:
    """Return what of the size isn't the usual one."""
    sizes = (("resources", RESOURCES, 1000), ("pods", PODS, 2000), ("nodes", NODES, 1000))
    return "-".join(f"{size}-{what}" for what, size, usual in sizes if size != usual)


def end_in_order() -> None:
    """Let a SIGTERM, such as that of `timeout`, end the cluster and remove its folder."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def without_operator() -> float:
    """Seconds until all pods are ready whose children were written without gates."""
    async with fleet(RESOURCES, PODS // RESOURCES) as fresh:
        began = time.monotonic()
        await fresh.add_children()
        await fresh.pods.until_ready(PODS)
        return time.monotonic() - began


async def with_operator(found: Found, alone: float) -> None:
    async with fleet(RESOURCES, PODS // RESOURCES) as fresh:
        async with fresh.operator() as process:
            await cold_start(fresh, process, found, alone)
            await rest(fresh, process, found)
            await one_policy(fresh, process, found)
            await one_resource(fresh, found)
        await restarts(fresh, found)


async def cold_start(fresh: Fleet, process: scaleprocess.OperatorProcess, found: Found, alone: float) -> None:
    await fresh.pods.until_ready(PODS)
    placed = time.monotonic() - process.began
    await fresh.statuses.until_shown(RESOURCES)
    whole = time.monotonic() - process.began
    late = process.lateness(process.began)
    say(f"cold start {whole:.1f} s, gate absent {alone:.1f} s, operator's CPU {process.cpu_seconds():.1f} s")
    found.rows += [
        report.plain(f"{RESOURCES} resources, {PODS} pods: gate absent → all ready", alone, "s"),
        report.plain("cold start → all placed and ready", placed, "s"),
        report.plain("cold start → all states in the status", whole, "s"),
        report.at_most("cold start beyond what the control plane needs", whole - alone, "s", 60),
        report.plain("cold start: CPU of the operator", process.cpu_seconds(), "s"),
        report.plain("cold start: loop lag, p99", report.percentile(late, 0.99) * 1000, "ms"),
    ]


async def rest(fresh: Fleet, process: scaleprocess.OperatorProcess, found: Found) -> None:
    await asyncio.sleep(SETTLE_SECONDS)
    began, cpu, writes = time.monotonic(), process.cpu_seconds(), fresh.statuses.arrivals
    await asyncio.sleep(REST_SECONDS)
    share = 100 * (process.cpu_seconds() - cpu) / (time.monotonic() - began)
    late = process.lateness(began)
    say(f"rest {share:.1f} %, {fresh.statuses.arrivals - writes} writes, RSS {process.memory()}")
    found.rows += [
        report.at_most("at rest: CPU of the operator", share, "% of a core", 5),
        report.at_most("at rest: loop lag, p99", report.percentile(late, 0.99) * 1000, "ms", 100),
        report.plain("at rest: writes of resources", fresh.statuses.arrivals - writes, "writes"),
        report.at_most("resident memory of the operator", process.memory()[0], "MiB", 300),
        report.plain("resident memory of the operator, at most so far", process.memory()[1], "MiB"),
    ]


async def one_policy(fresh: Fleet, process: scaleprocess.OperatorProcess, found: Found) -> None:
    await add_policy(fresh)
    await fresh.policy_change(601, RESOURCES)
    began, cpu, seconds = time.monotonic(), process.cpu_seconds(), []
    for change in range(CHANGES):
        await asyncio.sleep(2)
        seconds.append(await fresh.policy_change(700 + change, RESOURCES))
    changed = time.monotonic()
    await fresh.statuses.until_applied(700 + CHANGES - 1, RESOURCES)
    said = time.monotonic() - changed
    cpu = (process.cpu_seconds() - cpu) / CHANGES
    late = process.lateness(began)
    await asyncio.sleep(SETTLE_SECONDS)
    changed = time.monotonic()
    alone = await fresh.policy_change(800, RESOURCES)
    await fresh.statuses.until_applied(800, RESOURCES)
    told = time.monotonic() - changed
    say(f"policy {sorted(seconds)}, CPU {cpu:.2f} s a change, statuses {said:.1f} s after the last")
    say(f"one more after {SETTLE_SECONDS:g} s: {alone:.1f} s, statuses {told:.1f} s")
    found.samples["policy_seconds"] = seconds
    found.rows += [
        report.plain(f"policy → applied in {RESOURCES} resources, p50", report.percentile(seconds, 0.5), "s"),
        report.at_most(
            f"policy → applied in {RESOURCES} resources, p99", report.percentile(seconds, 0.99), "s", 10
        ),
        report.plain("policy: CPU of the operator for each change", cpu, "s"),
        report.plain("policy: the last of them applied → said in all statuses", said, "s"),
        report.plain(f"another one after {SETTLE_SECONDS:g} s → applied in all", alone, "s"),
        report.plain("another one → said in all statuses", told, "s"),
        report.at_most("policy: loop lag, p99", report.percentile(late, 0.99) * 1000, "ms", 100),
    ]


async def add_policy(fresh: Fleet) -> None:
    body = {
        "apiVersion": names.API_VERSION,
        "kind": names.POLICY_KIND,
        "metadata": {"name": "fleet"},
        "spec": {"selector": {"matchLabels": {"fleet": "yes"}}, "idle": {"offloadAfterSeconds": 600}},
    }
    await fresh.api.create(POLICIES, body)


async def one_resource(fresh: Fleet, found: Found) -> None:
    """One resource of many pods beside the fleet."""
    wide = ("default", "wide")
    await fresh.api.create(path("default"), fresh.manifest(*wide, WIDE_PODS, fleet="no"))
    seconds = []
    for change in range(-1, WIDE_CHANGES):
        wanted = 600 + change
        began = time.monotonic()
        await fresh.api.merge(path(*wide), {"spec": {"idle": {"offloadAfterSeconds": wanted}}})

        def applied(pods: Iterable[Pod], wanted: int = wanted) -> bool:
            mine = [pod for pod in pods if pod.resource == wide]
            return len(mine) == WIDE_PODS and all(pod.works_by(wanted) for pod in mine)

        await fresh.pods.until(applied)
        if change >= 0:
            seconds.append(time.monotonic() - began)
        await asyncio.sleep(1)
    say(f"wide {sorted(seconds)}")
    found.samples["patch_seconds"] = seconds
    found.rows += [
        report.at_most(
            f"patch → applied in {WIDE_PODS} pods of one resource beside them, p50",
            report.percentile(seconds, 0.5) * 1000, "ms", 186,
        ),
        report.plain("the same, p99", report.percentile(seconds, 0.99) * 1000, "ms"),
    ]  # fmt: skip


async def restarts(fresh: Fleet, found: Found) -> None:
    """Seconds from a process's start until it has placed a pod that came while there was none."""
    seconds = []
    for turn in range(RESTARTS):
        one, ready = key(turn), len(fresh.pods.of(key(turn)))
        await fresh.api.merge(path(*one), {"spec": {"replicas": ready + 1}})
        async with fresh.operator() as process:
            await fresh.pods.until_of(one, ready + 1)
            seconds.append(time.monotonic() - process.began)
            cpu = process.cpu_seconds()
            await asyncio.sleep(SETTLE_SECONDS)
            say(f"restart {seconds[-1]:.2f} s, CPU {cpu:.1f} s then and {process.cpu_seconds():.1f} s later")
    async with fresh.operator():
        await asyncio.sleep(SETTLE_SECONDS)
        first = await fresh.policy_change(900, RESOURCES)
    say(f"first policy after a restart {first:.2f} s")
    found.samples["restart_seconds"] = seconds
    found.rows += [
        report.at_most(f"restart → next placement, the longest of {RESTARTS}", max(seconds), "s", 30),
        report.plain(f"the first policy after a restart → applied in {RESOURCES} resources", first, "s"),
    ]


def say(text: str) -> None:
    print(f"  {text}", flush=True)
