"""How fast declarations reach the pods and the pods' state reaches the status, and what rest costs."""

import asyncio
import base64
import contextlib
import json
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from bench import report, server
from devcluster.cluster import Cluster
from ocr_operator.decide import ownership
from ocr_wire import names
from ocr_wire.states import Location

NAME: Final = "bench"
PODS: Final = 4
CHANGES: Final = 60
MOVES: Final = 60
APART: Final = 24
APART_SECONDS: Final = 3.0
"""Timers and requests move a model every now and then, not as fast as a loop can."""
IDLE_SECONDS: Final = 120.0
LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
RESOURCE: Final = f"/apis/{names.API_VERSION}/namespaces/default/{names.PLURAL}/{NAME}"

MANIFEST: Final = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": NAME},
    "spec": {
        "replicas": PODS,
        "models": [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "2Gi"}],
        "gpu": {"sharing": "shared"},
        "idle": server.NO_TIMERS,
    },
}


class Watched:
    """The newest object of a stream, the time of its arrival, and a way to wait for one that fits."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}
        self.arrivals = 0
        self._changed = asyncio.Event()

    def put(self, value: dict[str, Any]) -> None:
        self.value = value
        self.arrivals += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, fits: Callable[[dict[str, Any]], bool], seconds: float = 60) -> float:
        """The moment (monotonic seconds) at which an object that fits was seen."""
        async with asyncio.timeout(seconds):
            while not (self.value and fits(self.value)):
                await self._changed.wait()
        return time.monotonic()


class Api:
    """The few calls to the API server that a measurement makes, without kubectl's start-up time in them."""

    def __init__(self, cluster: Cluster, http: aiohttp.ClientSession) -> None:
        self._url = cluster.url
        self._http = http
        self._headers = {"Authorization": f"Bearer {cluster.token}"}
        self._tls = ssl.create_default_context(cafile=str(cluster.authority))

    async def get(self, path: str) -> dict[str, Any]:
        async with self._http.get(self._url + path, headers=self._headers, ssl=self._tls) as answer:
            answer.raise_for_status()
            body: dict[str, Any] = await answer.json()
            return body

    async def create(self, path: str, body: dict[str, Any]) -> None:
        async with self._http.post(
            self._url + path, json=body, headers=self._headers, ssl=self._tls
        ) as answer:
            answer.raise_for_status()

    async def changes(self, path: str, **query: str) -> AsyncIterator[dict[str, Any]]:
        """Every object of a list as it is, and as often as it changes, for ever. Where the API server closes the watch
        of a slow client, it goes on from there; where it has forgotten the place, all objects come again.
        """
        version = ""
        while True:
            asked = query | {"watch": "true", "timeoutSeconds": "3600"}
            timeout = aiohttp.ClientTimeout(total=None)
            async with self._http.get(
                self._url + path,
                params=asked | ({"resourceVersion": version} if version else {}),
                headers=self._headers,
                ssl=self._tls,
                timeout=timeout,
                read_bufsize=2**20,
            ) as answer:
                if answer.status != 410:
                    answer.raise_for_status()
                    async for line in answer.content:
                        event = msgspec.json.decode(line)
                        if event["type"] == "ERROR":
                            break
                        version = event["object"]["metadata"]["resourceVersion"]
                        yield event["object"]
                    else:
                        continue
            version = ""

    async def merge(self, path: str, patch: dict[str, Any]) -> None:
        headers = self._headers | {"Content-Type": "application/merge-patch+json"}
        async with self._http.patch(
            self._url + path, data=json.dumps(patch), headers=headers, ssl=self._tls
        ) as answer:
            answer.raise_for_status()

    async def addresses(self) -> list[str]:
        """Of the pods of the measured resource."""
        selector = f"labelSelector={names.LABEL_DEPLOYMENT}={NAME}"
        listed = await self.get(f"/api/v1/namespaces/default/pods?{selector}")
        return [pod["status"]["podIP"] for pod in listed["items"]]

    async def token(self, resource: str) -> str:
        """What its pods' controls ask for."""
        secret = await self.get(f"/api/v1/namespaces/default/secrets/{names.admin_secret(resource)}")
        return base64.b64decode(secret["data"][names.ADMIN_KEY]).decode()

    async def watch(self, path: str, name: str, into: Watched) -> None:
        async for body in self.changes(path, fieldSelector=f"metadata.name={name}"):
            into.put(body)


def url_of(address: str) -> str:
    """Of a pod's server."""
    return f"http://{address}:{names.DEFAULT_PORT}"


async def follow(http: aiohttp.ClientSession, address: str, into: Watched) -> None:
    async with contextlib.aclosing(server.states(http, url_of(address))) as states:
        async for state in states:
            into.put(state)


@contextlib.asynccontextmanager
async def background(*jobs: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def live_changes(api: Api, pods: list[Watched]) -> list[float]:
    """Seconds from sending the patch to the last pod's echo, over CHANGES changes one after the other."""
    seconds = []
    for change in range(CHANGES):
        wanted = 600 + change
        began = time.monotonic()
        await api.merge(RESOURCE, {"spec": {"idle": {"offloadAfterSeconds": wanted}}})
        seconds.append(max(await asyncio.gather(*(pod.until(works_by(wanted)) for pod in pods))) - began)
    return seconds


def works_by(offload_after: float) -> Callable[[dict[str, Any]], bool]:
    return lambda state: state["settings"]["values"]["idle"]["offloadAfterSeconds"] == offload_after


def holds(wanted: str) -> Callable[[dict[str, Any]], bool]:
    return lambda state: state["models"][0]["location"] == wanted


def shows(wanted: str, pod: str) -> Callable[[dict[str, Any]], bool]:
    return lambda resource: location(resource, pod) == wanted


def location(status: dict[str, Any], pod: str) -> str:
    for entry in status.get("status", {}).get("pods", []):
        if entry["name"] == pod and entry.get("models"):
            found: str = entry["models"][0]["location"]
            return found
    return ""


async def moves(
    http: aiohttp.ClientSession,
    token: str,
    address: str,
    pod: Watched,
    resource: Watched,
    *,
    count: int = MOVES,
    apart: float = 0.0,
) -> tuple[list[float], list[float]]:
    """Seconds from the pod's own report of a new location to the resource's status saying the same; and those that the
    moves themselves took, which the status is told of, too."""
    name = pod.value["pod"]["name"]
    page = server.PAGE.read_bytes()
    headers = {"Authorization": f"Bearer {token}"}
    shown, taken = [], []
    for move in range(count):
        match move % 3:
            case 0:
                wanted, call = Location.GPU, server.read(http, url_of(address), page)
            case 1:
                wanted, call = Location.CPU, post(http, url_of(address) + names.PATH_OFFLOAD, headers)
            case _:
                wanted, call = Location.UNLOADED, post(http, url_of(address) + names.PATH_RELEASE, headers)
        began = time.monotonic()
        in_pod = asyncio.create_task(pod.until(holds(wanted)))
        in_status = asyncio.create_task(resource.until(shows(wanted, name)))
        await call
        moved = await in_pod
        taken.append(moved - began)
        shown.append(max(0.0, await in_status - moved))
        await asyncio.sleep(apart)
    return shown, taken


async def post(http: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> float:
    began = time.perf_counter()
    async with http.post(url, headers=headers) as answer:
        answer.raise_for_status()
    return time.perf_counter() - began


async def measure() -> report.Result:
    with tempfile.TemporaryDirectory() as folder:
        cluster = await asyncio.to_thread(
            Cluster.start, Path(folder) / "cluster", nodes=2, gpus=2, operator=True
        )
        with cluster:
            await asyncio.to_thread(cluster.kubectl, "apply", "-f", "-", stdin=json.dumps(MANIFEST))
            await asyncio.to_thread(
                cluster.kubectl, "wait", f"ocr/{NAME}", "--for=condition=ConfigApplied", "--timeout=90s"
            )
            await asyncio.to_thread(
                cluster.kubectl,
                "wait",
                f"ocr/{NAME}",
                f"--for=jsonpath={{.status.readyReplicas}}={PODS}",
                "--timeout=90s",
            )
            return await on(cluster)


async def on(cluster: Cluster) -> report.Result:
    async with aiohttp.ClientSession() as http:
        api = Api(cluster, http)
        addresses, token = await api.addresses(), await api.token(NAME)
        resource, pods = Watched(), [Watched() for _ in addresses]
        streams = [follow(http, address, pod) for address, pod in zip(addresses, pods, strict=True)]
        leases = Watched()
        lease = api.watch(LEASES, ownership.LEASE_NAME, leases)
        async with background(api.watch(RESOURCE.rpartition("/")[0], NAME, resource), lease, *streams):
            for watched in (resource, *pods):
                await watched.until(bool)
            applied = await live_changes(api, pods)
            one = (http, token, addresses[0], pods[0], resource)
            calm, calm_moves = await moves(*one, count=APART, apart=APART_SECONDS)
            shown, shown_moves = await moves(*one)
            await asyncio.sleep(10)
            before, renewed = resource.arrivals, leases.arrivals
            await asyncio.sleep(IDLE_SECONDS)
            idle_writes, renewals = resource.arrivals - before, leases.arrivals - renewed
    rows = (
        report.at_most(
            f"patch → applied in {PODS} pods, p50", report.percentile(applied, 0.5) * 1000, "ms", 300
        ),
        report.at_most(
            f"patch → applied in {PODS} pods, p99", report.percentile(applied, 0.99) * 1000, "ms", 2000
        ),
        report.plain("state change in a pod → status, p50", report.percentile(calm, 0.5) * 1000, "ms"),
        report.plain("state change in a pod → status, p90", report.percentile(calm, 0.9) * 1000, "ms"),
        report.plain(
            "state changes one right after the other → status, p50",
            report.percentile(shown, 0.5) * 1000,
            "ms",
        ),
        report.at_most(
            "state changes one right after the other → status, p99",
            report.percentile(shown, 0.99) * 1000,
            "ms",
            2000,
        ),
        report.at_most(f"writes of the resource in {IDLE_SECONDS:.0f} s of rest", idle_writes, "writes", 0),
        report.plain("renewals of the namespace's Lease meanwhile", renewals, "writes"),
    )
    method = (
        f"devcluster with the Helm-installed operator as a pod, {PODS} rapidocr pods on simulated GPUs, all on"
        f" this machine. {CHANGES} changes of spec.idle.offloadAfterSeconds, each from sending the PATCH to the"
        f" last pod's state stream echoing the value. {APART} moves of one model (gpu, cpu, unloaded in turn),"
        f" {APART_SECONDS:g} s apart, each from the pod's state stream to the resource's watch; then {MOVES} such"
        " moves, each as soon as the status had shown the one before: what pods alone cause is written once a second,"
        f" after some at once. Then {IDLE_SECONDS:.0f} s of rest, counting the resource's watch events and the Lease's."
    )
    samples: dict[str, Sequence[float]] = {
        "applied_seconds": applied,
        "status_seconds": calm,
        "move_seconds": calm_moves,
        "status_seconds_in_a_row": shown,
        "move_seconds_in_a_row": shown_moves,
    }
    return report.Result("control", method, rows, samples)
