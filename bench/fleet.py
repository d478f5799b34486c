"""How fast one change reaches a hundred pods: those of one resource, and those of a hundred resources by one policy."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench import report
from bench.control import Api
from devcluster.cluster import Cluster
from ocr_wire import names
from tests.support import fakepod
from tests.support.fakepod import FakePod

PODS: Final = 100
CHANGES: Final = 50
POLICY_CHANGES: Final = 20
HEARTBEAT_SECONDS: Final = 10.0
"""As real pods have it."""
LEASE_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 300.0
NODE: Final = "bench"
WIDE: Final = "wide"
CRDS: Final = Path(__file__).parents[1] / "crds"
NAMESPACE: Final = "/api/v1/namespaces/default"
RESOURCES: Final = f"/apis/{names.API_VERSION}/namespaces/default/{names.PLURAL}"
POLICIES: Final = f"/apis/{names.API_VERSION}/{names.POLICY_PLURAL}"
POLICY: Final = f"{POLICIES}/fleet"


class Pod(FakePod):
    """A stand-in for a pod, over real HTTP, that says when it has taken a push."""

    def __init__(self, name: str, uid: str, token: str, stamped: str, took: Callable[[], None]) -> None:
        super().__init__(name, uid, token, stamped=stamped, heartbeat=HEARTBEAT_SECONDS)
        self._took = took

    def tell(self) -> None:
        super().tell()
        self._took()

    def works_by(self, seconds: int) -> bool:
        idle: dict[str, int] = self.settings["values"].get("idle", {})
        return idle.get("offloadAfterSeconds") == seconds


class Kubelet:
    """Plays the node: every pod that the scheduler binds gets an address, a server at it, and a ready status."""

    def __init__(self, api: Api, port: int, servers: contextlib.AsyncExitStack) -> None:
        self._api = api
        self._port = port
        self._servers = servers
        self._tokens: dict[str, str] = {}
        self._changed = asyncio.Event()
        self.pods: dict[str, Pod] = {}

    async def run(self) -> None:
        async for pod in self._api.changes(f"{NAMESPACE}/pods"):
            meta = pod["metadata"]
            if pod["spec"].get("nodeName") and meta["name"] not in self.pods:
                await self._start(meta["name"], meta)

    async def keep_node(self) -> None:
        """The Node and its Lease, renewed as the controllers of nodes expect it."""
        lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        amounts = {"cpu": "64", "memory": "256Gi", "pods": "500"}
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "Bench",
            "message": "",
            **_times("lastTransitionTime"),
        }
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        await self._api.create("/api/v1/nodes", node)
        status = {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}
        await self._api.merge(f"/api/v1/nodes/{NODE}/status", {"status": status})
        body: dict[str, Any] = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": NODE},
        }
        await self._api.create(lease, body | {"spec": {"holderIdentity": NODE, "leaseDurationSeconds": 40}})
        while True:
            now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            await self._api.merge(f"{lease}/{NODE}", {"spec": {"renewTime": now}})
            await asyncio.sleep(LEASE_SECONDS)

    async def all_work_by(self, seconds: int, selected: Callable[[str], bool], count: int) -> float:
        """The moment (monotonic seconds) at which the last of `count` selected pods had taken the value."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                mine = [pod for name, pod in self.pods.items() if selected(name)]
                if len(mine) == count and all(pod.works_by(seconds) for pod in mine):
                    return time.monotonic()
                await self._changed.wait()

    async def _start(self, name: str, meta: dict[str, Any]) -> None:
        resource = meta["labels"][names.LABEL_DEPLOYMENT]
        if resource not in self._tokens:
            self._tokens[resource] = await self._api.token(resource)
        stamped = meta["annotations"][names.ANNOTATION_LIVE_SETTINGS]
        pod = self.pods[name] = Pod(name, meta["uid"], self._tokens[resource], stamped, self._notify)
        ip = fakepod.address()
        await self._servers.enter_async_context(pod.serve(ip, self._port))
        ready = {"type": "Ready", "status": "True", **_times("lastTransitionTime")}
        container = {
            "name": names.CONTAINER, "image": "bench", "imageID": "bench", "ready": True, "restartCount": 0,
            "state": {"running": _times("startedAt")},
        }  # fmt: skip
        status = {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready],
            "containerStatuses": [container],
        }  # fmt: skip
        await self._api.merge(f"{NAMESPACE}/pods/{name}/status", {"status": status})
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _times(name: str) -> dict[str, str]:
    return {name: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


def resource(name: str, port: int, *, replicas: int, fleet: str) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "labels": {"fleet": fleet}},
        "spec": {
            "replicas": replicas,
            "models": [{"name": "pp-ocr", "engine": "rapidocr"}],
            "gpu": {"sharing": "none"},
            "server": {"port": port},
        },
    }


@contextlib.asynccontextmanager
async def operator(cluster: Cluster, log: Path) -> AsyncIterator[None]:
    """The operator's own process, as the chart would run it."""
    environ = os.environ | {
        "KUBECONFIG": str(cluster.kubeconfig),
        "OCR_OPERATOR_HOST": "127.0.0.1",
        "OCR_OPERATOR_PORT": "0",
    }
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ocr_operator", env=environ, stdout=out, stderr=out
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def measure() -> report.Result:
    with tempfile.TemporaryDirectory() as folder:
        cluster = await asyncio.to_thread(Cluster.start, Path(folder) / "cluster", definitions=CRDS)
        with cluster:
            async with operator(cluster, Path(folder) / "operator.log"):
                return await on(cluster)


async def on(cluster: Cluster) -> report.Result:
    port = fakepod.free_port()
    async with aiohttp.ClientSession() as http, contextlib.AsyncExitStack() as servers:
        api = Api(cluster, http)
        kubelet = Kubelet(api, port, servers)
        async with asyncio.TaskGroup() as tasks:  # a node that fails ends the measurement
            node = [tasks.create_task(each) for each in (kubelet.keep_node(), kubelet.run())]
            wide = await one_resource(api, kubelet, port)
            fleet = await one_policy(api, kubelet, port)
            for each in node:
                each.cancel()
    milliseconds = {
        name: [report.percentile(samples, share) * 1000 for share in (0.5, 0.99)]
        for name, samples in {"wide": wide, "fleet": fleet}.items()
    }
    rows = (
        report.at_most(f"patch → applied in {PODS} pods, p50", milliseconds["wide"][0], "ms", 300),
        report.at_most(f"patch → applied in {PODS} pods, p99", milliseconds["wide"][1], "ms", 2000),
        report.plain(f"policy → applied in {PODS} resources, p50", milliseconds["fleet"][0], "ms"),
        report.at_most(f"policy → applied in {PODS} resources, p99", milliseconds["fleet"][1], "ms", 3000),
    )
    method = (
        "Real control plane and the operator's own process; the pods are stand-ins that speak the two calls over real"
        f" HTTP, all {PODS} in the process that measures, at addresses of their own: as many server processes would"
        f" measure the machine and not the operator. One resource with {PODS} replicas: {CHANGES} changes of"
        " spec.idle.offloadAfterSeconds, 1.5 s apart, each from sending the PATCH to the last pod having taken it."
        f" Then {PODS} more resources with one replica each and one OcrIdlePolicy that selects them:"
        f" {POLICY_CHANGES} changes of its timeout, 2 s apart, each from sending the PATCH to the last pod of all."
    )
    return report.Result("fleet", method, rows, {"resource_seconds": wide, "policy_seconds": fleet})


async def one_resource(api: Api, kubelet: Kubelet, port: int) -> list[float]:
    await api.create(RESOURCES, resource(WIDE, port, replicas=PODS, fleet="no"))

    def selected(pod: str) -> bool:
        return pod.startswith(f"{WIDE}-")

    await kubelet.all_work_by(60, selected, PODS)
    seconds = []
    for change in range(CHANGES):
        wanted = 600 + change
        began = time.monotonic()
        await api.merge(f"{RESOURCES}/{WIDE}", {"spec": {"idle": {"offloadAfterSeconds": wanted}}})
        seconds.append(await kubelet.all_work_by(wanted, selected, PODS) - began)
        await asyncio.sleep(1.5)
    return seconds


async def one_policy(api: Api, kubelet: Kubelet, port: int) -> list[float]:
    for number in range(PODS):
        await api.create(RESOURCES, resource(f"r{number}", port, replicas=1, fleet="yes"))
    policy = {"apiVersion": names.API_VERSION, "kind": names.POLICY_KIND, "metadata": {"name": "fleet"}}
    selector = {"matchLabels": {"fleet": "yes"}}
    await api.create(
        POLICIES, policy | {"spec": {"selector": selector, "idle": {"offloadAfterSeconds": 600}}}
    )

    def selected(pod: str) -> bool:
        return not pod.startswith(f"{WIDE}-")

    await kubelet.all_work_by(600, selected, PODS)
    seconds = []
    for change in range(1, POLICY_CHANGES + 1):
        await asyncio.sleep(2)
        wanted = 600 + change
        began = time.monotonic()
        await api.merge(POLICY, {"spec": {"idle": {"offloadAfterSeconds": wanted}}})
        seconds.append(await kubelet.all_work_by(wanted, selected, PODS) - began)
    return seconds
