"""A fleet that one process plays: nodes that are objects only, and pods behind one server at addresses of their own.

Everything between is real: API server, controllers, scheduler and operator. A thousand kubelets, or a process for each
of five thousand servers, would measure this machine instead.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
from aiohttp import web

from bench.control import Api
from ocr_wire import names

GPUS: Final = 8
HEARTBEAT_SECONDS: Final = 10.0
"""As real pods have it."""
SLICES: Final = 100
"""Heartbeats are spread over their period in so many steps."""
AT_ONCE: Final = 32
"""Calls to the API server."""
MODEL: Final = "pp-ocr"
T = TypeVar("T")


def node(number: int) -> dict[str, Any]:
    labels = {
        "nvidia.com/gpu.present": "true",
        names.LABEL_GPU_PRODUCT: "NVIDIA-L40S",
        "nvidia.com/gpu.count": str(GPUS),
        names.LABEL_GPU_MEMORY: "46068",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node-{number:04}", "labels": labels},
    }


def node_status() -> dict[str, Any]:
    amounts = {"cpu": "128", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": str(GPUS)}
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Played",
        "message": "",
        **stamped("lastTransitionTime"),
    }
    return {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}


def stamped(name: str) -> dict[str, str]:
    return {name: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


async def each(items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Do the work for all items, some at a time."""
    waiting = iter(items)

    async def one() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(one())


async def add_nodes(api: Api, count: int) -> None:
    async def add(number: int) -> None:
        body = node(number)
        await api.create("/api/v1/nodes", body)
        await api.merge(f"/api/v1/nodes/{body['metadata']['name']}/status", {"status": node_status()})

    await each(range(count), add)


class Pod:
    """What one pod says, and what it was told."""

    def __init__(self, meta: Mapping[str, Any]) -> None:
        self.resource = (meta["namespace"], meta["labels"][names.LABEL_DEPLOYMENT])
        self.name = meta["name"]
        self.uid = meta["uid"]
        text = (meta.get("annotations") or {}).get(names.ANNOTATION_LIVE_SETTINGS)
        nothing: dict[str, Any] = {"generation": 0, "revision": 0, "hash": "", "values": {}}
        self.settings: dict[str, Any] = msgspec.json.decode(text) if text else nothing
        self.stream: web.StreamResponse | None = None

    def works_by(self, seconds: int) -> bool:
        idle: dict[str, int] = self.settings["values"].get("idle", {})
        return idle.get("offloadAfterSeconds") == seconds

    def message(self) -> bytes:
        model = {
            "name": MODEL, "engine": "rapidocr", "state": "unloaded", "location": "unloaded", "worker": "running",
            "since": "2026-11-23T08:00:00.000Z", "in_flight": 0, "waiting": 0, "memory_bytes": 0, "host_bytes": 0,
            "loads": 0, "wakes": 0, "failures": 0, "last_wake_seconds": None, "last_load_seconds": None,
            "last_failure": None,
        }  # fmt: skip
        state = {
            "pod": {"name": self.name, "uid": self.uid},
            "version": "0.1.0",
            "draining": False,
            "device": {
                "kind": "simulated", "uuid": f"GPU-{self.uid}", "product": "NVIDIA-L40S",
                "memory_total_bytes": 46068 * 2**20, "memory_used_bytes": 0,
            },
            "models": [model],
            "queue": {"waiting": 0, "in_flight": 0, "limit": 64},
            "settings": self.settings,
        }  # fmt: skip
        return b"event: state\ndata: " + msgspec.json.encode(state) + b"\n\n"


class PlayedPods:
    """Plays the kubelets of all nodes and the servers of all pods. `run` until cancelled."""

    def __init__(self, api: Api, port: int) -> None:
        self._api = api
        self._port = port
        self._known: set[str] = set()
        """UIDs of all pods that were ever seen on a node."""
        self._by_ip: dict[str, Pod] = {}
        self._ready: dict[str, Pod] = {}
        self._bound: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """Count the pods that are ready."""
        return len(self._ready)

    def of(self, resource: tuple[str, str]) -> list[Pod]:
        return [pod for pod in self._ready.values() if pod.resource == resource]

    async def until(self, holds: Callable[[Iterable[Pod]], bool]) -> None:
        while not holds(self._ready.values()):
            await self._changed.wait()

    async def until_ready(self, count: int) -> None:
        await self.until(lambda _: len(self) >= count)

    async def until_of(self, resource: tuple[str, str], count: int) -> None:
        await self.until(lambda _: len(self.of(resource)) == count)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = web.Application()
        app.add_routes([web.get(names.PATH_STATE, self._state), web.put(names.PATH_SETTINGS, self._settings)])
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.05)
        await runner.setup()
        await web.TCPSite(runner, "0.0.0.0", self._port, backlog=4096).start()
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(self._watch()), tasks.create_task(self._beat())]
            work += [tasks.create_task(self._start()) for _ in range(AT_ONCE)]
            try:
                yield
            finally:
                for task in work:
                    task.cancel()
                await runner.cleanup()

    async def _watch(self) -> None:
        async for pod in self._api.changes("/api/v1/pods", fieldSelector="spec.nodeName!="):
            uid = pod["metadata"]["uid"]
            if pod["metadata"].get("deletionTimestamp"):
                if self._ready.pop(uid, None) is not None:
                    self._notify()
            elif uid not in self._known:
                self._known.add(uid)
                self._bound.put_nowait(pod)

    async def _start(self) -> None:
        while True:
            pod = await self._bound.get()
            meta = pod["metadata"]
            number = len(self._by_ip)
            ip = f"127.{200 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"
            self._by_ip[ip] = played = Pod(meta)
            ready = {"type": "Ready", "status": "True", **stamped("lastTransitionTime")}
            container = {
                "name": names.CONTAINER, "image": "played", "imageID": "played", "ready": True, "restartCount": 0,
                "state": {"running": stamped("startedAt")},
            }  # fmt: skip
            status = {
                "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready],
                "containerStatuses": [container],
            }  # fmt: skip
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
            with contextlib.suppress(aiohttp.ClientResponseError):  # it was deleted meanwhile
                await self._api.merge(path, {"status": status})
                self._ready[played.uid] = played
                self._notify()

    async def _beat(self) -> None:
        for number in range(10**9):
            await asyncio.sleep(HEARTBEAT_SECONDS / SLICES)
            for position, pod in enumerate(list(self._by_ip.values())):
                if position % SLICES == number % SLICES and pod.stream is not None:
                    await _send(pod, b": heartbeat\n\n")

    async def _state(self, request: web.Request) -> web.StreamResponse:
        pod = self._asked(request)
        pod.stream = response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await _send(pod, pod.message())
        with contextlib.suppress(asyncio.CancelledError):  # the operator hung up
            await asyncio.Event().wait()
        return response

    async def _settings(self, request: web.Request) -> web.StreamResponse:
        pod = self._asked(request)
        pod.settings = msgspec.json.decode(await request.read())
        await _send(pod, pod.message())
        self._notify()
        return web.json_response(pod.settings)

    def _asked(self, request: web.Request) -> Pod:
        """Return the pod whose address was asked."""
        assert request.transport is not None
        return self._by_ip[request.transport.get_extra_info("sockname")[0]]

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


async def _send(pod: Pod, text: bytes) -> None:
    if pod.stream is not None:
        try:
            await pod.stream.write(text)
        except (ConnectionError, RuntimeError):
            pod.stream = None


def _applied_timeout(status: dict[str, Any]) -> str:
    applied = [each["status"] for each in status.get("conditions", []) if each["type"] == "ConfigApplied"]
    sources = status.get("liveSettings", {}).get("sources", [])
    found = [each["value"] for each in sources if each["field"] == "idle.offloadAfterSeconds"]
    return found[0] if found and applied == ["True"] else ""


class Statuses:
    """The resources of the fleet as the API server says them: which ones show the state of all their pods."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._pods: dict[tuple[str, str], tuple[int, int]] = {}
        """Resource → its replicas, and pods of it whose model's place is in the status."""
        self._works_by: dict[tuple[str, str], str] = {}
        """Resource → the offload timeout that its status says all pods have applied."""
        self._changed = asyncio.Event()
        self.arrivals = 0
        self.last: Sequence[Any] = ()

    async def run(self) -> None:
        async for body in self._api.changes(f"/apis/{names.API_VERSION}/{names.PLURAL}"):
            self.arrivals += 1
            meta, pods = body["metadata"], body.get("status", {}).get("pods", [])
            shown = sum(
                bool(pod.get("models"))
                and all(model["location"] in ("gpu", "cpu", "unloaded") for model in pod["models"])
                for pod in pods
            )
            self._pods[meta["namespace"], meta["name"]] = (body["spec"].get("replicas", 1), shown)
            self._works_by[meta["namespace"], meta["name"]] = _applied_timeout(body.get("status", {}))
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    async def until_applied(self, seconds: int, count: int) -> None:
        """Return once so many resources say that all of their pods have applied that offload timeout."""
        while sum(value == str(seconds) for value in self._works_by.values()) < count:
            await self._changed.wait()

    async def until_shown(self, count: int) -> None:
        """Return once so many resources show all of their pods."""
        while sum(shown == wanted for wanted, shown in self._pods.values()) < count:
            await self._changed.wait()
