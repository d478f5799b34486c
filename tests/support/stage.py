"""A whole small cluster around the operator, in one process and within milliseconds.

The API server is `FakeKube`; this plays the controllers of Kubernetes (Deployments make pods, ungated pods are
bound), the kubelets (a bound pod gets an address and a `FakePod` that serves there) and one exporter per node.
The operator's own part is real, down to the HTTP.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from ocr_operator.controllers.controller import Controller
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.pods import wire
from ocr_operator.settings import Settings
from ocr_wire import names
from tests.support import fakepod
from tests.support.authorized import Authorized
from tests.support.fakekube import FakeKube
from tests.support.fakepod import FakePod
from tests.support.patience import PATIENCE

MIB = 2**20
PORT = fakepod.free_port()
EXPORTER_PORT = fakepod.free_port()
PRIORITIES = {"high": 10}
"""PriorityClasses."""


async def until(holds: Callable[[], Any], *, within: float = PATIENCE, what: str = "") -> Any:
    """The first true value of `holds`, asked again and again."""
    deadline = time.monotonic() + within
    while not (value := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what or holds}")
        await asyncio.sleep(0.005)
    return value


@dataclass(eq=False)
class Stage:
    """What the tests look at and turn."""

    kube: FakeKube
    gpus: dict[str, dict[str, int]]
    """Node → GPU → MiB that somebody else uses."""
    pods: dict[str, FakePod] = field(default_factory=dict)
    controller: Controller | None = None
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    refuses: set[str] = field(default_factory=set)
    """Nodes whose kubelets refuse every pod."""
    binds: bool = True
    """Whether the scheduler works."""
    rolling: set[str] = field(default_factory=set)
    """Deployments whose roll-outs don't come to an end."""
    failing: set[str] = field(default_factory=set)
    """Deployments whose pods aren't ready for so long that their roll-outs have failed."""
    starts: bool = True
    """Whether kubelets start pods."""
    collects: bool = True
    """Whether the garbage collector works."""
    clock: Callable[[], datetime] = field(default_factory=lambda: partial(datetime.now, UTC))
    """The wall clock of an operator that is started, for tests that set it."""
    authorized: Authorized = field(init=False)
    """What the operator calls: the API server, as far as the chart's role goes."""
    _servers: dict[str, contextlib.AsyncExitStack] = field(default_factory=dict)
    _started: set[str] = field(default_factory=set)
    _names: Any = field(default_factory=lambda: itertools.count(1))
    _operator: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.authorized = Authorized(self.kube)

    # The user

    async def apply(self, name: str = "invoices", *, namespace: str = "default", **spec: Any) -> None:
        """`kubectl apply` of a resource with one model that asks for 1 GiB."""
        models = [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "1Gi"}]
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "replicas": 2,
                "models": models,
                "gpu": {"sharing": "shared"},
                "server": {"port": PORT},
                **spec,
            },
        }
        ref = api.ref_of(body)
        try:
            await self.kube.patch(ref, [{"op": "replace", "path": "/spec", "value": body["spec"]}])
        except api.NotFound:
            await self.kube.create(body)

    async def delete(self, name: str = "invoices") -> None:
        """`kubectl delete` of a resource."""
        await self._delete(self.resource(name))

    def resource(self, name: str = "invoices") -> dict[str, Any]:
        return self.objects(api.OCR_DEPLOYMENT).get(name, {})

    def status(self, name: str = "invoices") -> dict[str, Any]:
        found: dict[str, Any] = self.resource(name).get("status") or {}
        return found

    def condition(self, type_: str, name: str = "invoices") -> dict[str, Any]:
        conditions = self.status(name).get("conditions") or []
        return next((each for each in conditions if each["type"] == type_), {})

    def holds(self, type_: str, status: str = "True", name: str = "invoices") -> bool:
        """The condition has that status for the newest generation."""
        condition = self.condition(type_, name)
        generation = self.resource(name).get("metadata", {}).get("generation")
        return condition.get("status") == status and condition.get("observedGeneration") == generation

    def locations(self, name: str = "invoices") -> dict[str, int]:
        """Without the zeros."""
        return {key: count for key, count in (self.status(name).get("locations") or {}).items() if count}

    def objects(self, kind: api.Kind) -> dict[str, dict[str, Any]]:
        return {ref.name: body for ref, body in self.kube._objects.items() if ref.kind == kind}

    def applied(self, name: str = "invoices") -> bool:
        return self.holds("ConfigApplied", name=name)

    async def policy(self, name: str, **spec: Any) -> None:
        """`kubectl apply` of an OcrIdlePolicy."""
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.POLICY_KIND,
            "metadata": {"name": name},
            "spec": spec,
        }
        try:
            await self.kube.patch(api.ref_of(body), [{"op": "replace", "path": "/spec", "value": spec}])
        except api.NotFound:
            await self.kube.create(body)

    def policy_status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.objects(api.OCR_IDLE_POLICY).get(name, {}).get("status") or {}
        return found

    def source(self, path: str, name: str = "invoices") -> tuple[str, str]:
        """The effective value of a live field and who set it, as the status tells."""
        listed = (self.status(name).get("liveSettings") or {}).get("sources") or []
        return next(((each["value"], each["from"]) for each in listed if each["field"] == path), ("", ""))

    # The operator

    async def start(self, kube: Any = None, **overrides: Any) -> None:
        """A fresh operator, as after a restart: it remembers nothing. `kube`: the API server as it sees it."""
        quick = {"scrape_seconds": 0.1, "exporter_port": EXPORTER_PORT, "resync_seconds": 5.0} | overrides
        idle_timeout = quick.pop("idle_timeout", 1.0)
        ready = asyncio.Event()

        async def run() -> None:
            async with wire.session() as session, asyncio.TaskGroup() as tasks:
                self.registry = CollectorRegistry()
                self.controller = Controller(
                    kube or self.authorized,
                    session,
                    Settings(**quick),
                    metrics=Metrics(self.registry),
                    now=self.clock,
                    time=time.monotonic,
                    rng=random.Random(1),
                    idle_timeout=idle_timeout,
                )
                tasks.create_task(self.controller.run())
                ready.set()

        self._operator = asyncio.create_task(run())
        await ready.wait()

    async def kill(self) -> None:
        """At once, wherever it is."""
        if self._operator is not None:
            self._operator.cancel()
            await asyncio.wait([self._operator])
            if not self._operator.cancelled():
                self._operator.result()
            self._operator = None

    # Kubernetes

    async def play(self) -> None:
        """Controllers and kubelets, level-triggered, until cancelled."""
        async with contextlib.AsyncExitStack() as everything:
            for node in self.gpus:
                await everything.enter_async_context(self._exporter(node))
            try:
                while True:
                    await self._deployments()
                    await self._pods()
                    if self.collects:
                        await self._collect()
                    await asyncio.sleep(0.005)
            finally:
                for server in list(self._servers.values()):
                    await server.aclose()

    async def end(self, name: str) -> None:
        """The pod's process is gone; its object is still there (a node that lost its network)."""
        await self._servers.pop(name).aclose()

    async def add_node(self, name: str, product: str = "NVIDIA-L40S") -> None:
        count = len(self.gpus.get(name, {}))
        await self.kube.create(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": {"nvidia.com/gpu.product": product}},
                "status": {
                    "capacity": {"nvidia.com/gpu": str(count)},
                    "allocatable": {"nvidia.com/gpu": str(count)},
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }
        )

    @contextlib.asynccontextmanager
    async def _exporter(self, node: str) -> AsyncIterator[None]:
        await self.add_node(node)
        ip = fakepod.address()
        async with fakepod.serve_metrics(partial(self._metrics, node), ip, EXPORTER_PORT):
            await self.kube.create(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {
                        "name": f"exporter-{node}",
                        "namespace": "gpu-operator",
                        "labels": {"app": "nvidia-dcgm-exporter"},
                        "ownerReferences": [
                            {"kind": "DaemonSet", "name": "exporter", "uid": "ds", "controller": True}
                        ],
                    },
                    "spec": {"nodeName": node},
                    "status": {"phase": "Running", "podIP": ip},
                }
            )
            yield

    def _metrics(self, node: str) -> str:
        lines = []
        for index, (uuid, used) in enumerate(self.gpus[node].items()):
            labels = f'{{gpu="{index}",UUID="{uuid}",device="nvidia{index}",modelName="NVIDIA L40S"}}'
            lines += [
                f"DCGM_FI_DEV_FB_USED{labels} {used}",
                f"DCGM_FI_DEV_FB_FREE{labels} {46068 - used}",
                f"DCGM_FI_DEV_GPU_UTIL{labels} 0",
            ]
        return "\n".join(lines) + "\n"

    async def _deployments(self) -> None:
        pods = self.objects(api.POD)
        for name, deployment in self.objects(api.DEPLOYMENT).items():
            mine = [pod for pod in pods.values() if _deployment_of(pod) == name and not _failed(pod)]
            wanted = deployment["spec"]["replicas"]
            for _ in range(wanted - len(mine)):
                template = deployment["spec"]["template"]
                await self.kube.create(
                    {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        "metadata": {
                            **template["metadata"],
                            "name": f"{name}-{next(self._names):03}",
                            "namespace": deployment["metadata"]["namespace"],
                            "ownerReferences": [
                                {"kind": "ReplicaSet", "name": name, "uid": f"rs-{name}", "controller": True}
                            ],
                        },
                        "spec": {"priority": PRIORITIES.get(template["spec"].get("priorityClassName"), 0)}
                        | template["spec"],
                        "status": {"phase": "Pending"},
                    }
                )
            more = sorted(mine, key=_end_order)[: max(0, len(mine) - wanted)]
            for pod in more or [each for each in mine if _outdated(each, deployment)][:1]:
                await self.kube.delete(api.ref_of(pod), uid=pod["metadata"]["uid"])
            await self._patch(
                deployment,
                "/status",
                _rolled_out(deployment, mine, done=name not in self.rolling, failed=name in self.failing),
            )

    async def _collect(self) -> None:
        """Remove the children of resources that are gone, and the pods of Deployments that are."""
        owners = {body["metadata"]["uid"] for body in self.objects(api.OCR_DEPLOYMENT).values()}
        for kind in (api.DEPLOYMENT, api.SERVICE, api.SECRET, api.BUDGET):
            for child in self.objects(kind).values():
                references = child["metadata"].get("ownerReferences") or ()
                if any(each["kind"] == names.KIND and each["uid"] not in owners for each in references):
                    await self._delete(child)
        deployments = self.objects(api.DEPLOYMENT)
        for pod in self.objects(api.POD).values():
            if (name := _deployment_of(pod)) and name not in deployments:
                await self._delete(pod)

    async def _delete(self, body: Mapping[str, Any]) -> None:
        with contextlib.suppress(api.NotFound):
            await self.kube.delete(api.ref_of(body), uid=body["metadata"]["uid"])

    async def _pods(self) -> None:
        pods = {name: pod for name, pod in self.objects(api.POD).items() if _deployment_of(pod)}
        for name in [each for each in self._servers if each not in pods]:
            await self._servers.pop(name).aclose()
            self._started.discard(name)
            self.pods.pop(name, None)
        for name, pod in pods.items():
            if pod["spec"].get("schedulingGates"):
                continue
            if not pod["spec"].get("nodeName"):
                if not self.binds:
                    continue
                await self._patch(pod, "/spec/nodeName", _pinned(pod) or next(iter(self.gpus)))
            elif self.starts and name not in self._started:
                self._started.add(name)
                if pod["spec"]["nodeName"] in self.refuses:
                    status = {
                        "phase": "Failed",
                        "reason": "UnexpectedAdmissionError",
                        "message": "no devices",
                    }
                    await self._patch(pod, "/status", status)
                else:
                    await self._run(name, pod)

    async def _run(self, name: str, pod: Mapping[str, Any]) -> None:
        ip = fakepod.address()
        secret = self.objects(api.SECRET)[f"{_deployment_of(pod)}-ocr-admin"]
        token = base64.b64decode(secret["data"][names.ADMIN_KEY]).decode()
        stamped = pod["metadata"]["annotations"].get(names.ANNOTATION_LIVE_SETTINGS, "")
        server = self._servers[name] = contextlib.AsyncExitStack()
        await server.enter_async_context(self._serve(name, pod, ip, token, stamped))
        container = {"name": names.CONTAINER, "ready": True, "restartCount": 0, "state": {"running": {}}}
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-23T08:00:00Z"}
        status = {"phase": "Running", "podIP": ip, "conditions": [ready], "containerStatuses": [container]}
        await self._patch(pod, "/status", status)

    def _serve(
        self, name: str, pod: Mapping[str, Any], ip: str, token: str, stamped: str
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """The pod's container."""
        self.pods[name] = FakePod(name, pod["metadata"]["uid"], token, stamped=stamped)
        if promised := pod["metadata"]["annotations"].get(names.ANNOTATION_GPU_UUIDS):
            self.pods[name].device["uuid"] = promised
        return self.pods[name].serve(ip, PORT)

    async def _patch(self, body: Mapping[str, Any], path: str, value: Any) -> None:
        with contextlib.suppress(api.NotFound):
            await self.kube.patch(api.ref_of(body), [{"op": "add", "path": path, "value": value}])


AnyStage = TypeVar("AnyStage", bound=Stage)


def _end_order(pod: Mapping[str, Any]) -> tuple[bool, bool, int, str]:
    """As a ReplicaSet ends pods: without a node, not ready, of a low cost, younger ones first."""
    conditions = {each["type"]: each["status"] for each in pod.get("status", {}).get("conditions") or ()}
    cost = (pod["metadata"].get("annotations") or {}).get(names.ANNOTATION_DELETION_COST, "0")
    name = "".join(chr(0x10FFFF - ord(each)) for each in pod["metadata"]["name"])
    return bool(pod["spec"].get("nodeName")), conditions.get("Ready") == "True", int(cost), name


def _deployment_of(pod: Mapping[str, Any]) -> str:
    name: str = (pod["metadata"].get("labels") or {}).get(names.LABEL_DEPLOYMENT, "")
    return name


def _failed(pod: Mapping[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") == "Failed"


def _pinned(pod: Mapping[str, Any]) -> str:
    placed = json.loads(pod["metadata"]["annotations"].get(names.ANNOTATION_PLACEMENT, "{}"))
    node: str = placed.get("node") or ""
    return node


def _outdated(pod: Mapping[str, Any], deployment: Mapping[str, Any]) -> bool:
    """By its containers: placement changes other things of a pod."""
    found: bool = pod["spec"]["containers"] != deployment["spec"]["template"]["spec"]["containers"]
    return found


def _rolled_out(
    deployment: Mapping[str, Any], pods: list[dict[str, Any]], *, done: bool, failed: bool
) -> dict[str, Any]:
    ready = 0 if failed else sum(bool(pod["status"].get("containerStatuses")) for pod in pods)
    reason = "NewReplicaSetAvailable" if done else "ReplicaSetUpdated"
    return {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": len(pods),
        "updatedReplicas": len(pods),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "conditions": [
            {
                "type": "Progressing",
                "status": "False" if failed else "True",
                "reason": "ProgressDeadlineExceeded" if failed else reason,
            }
        ],
    }


@contextlib.asynccontextmanager
async def stage(
    *, gpus: dict[str, dict[str, int]] | None = None, operator: bool = True, **settings: Any
) -> AsyncIterator[Stage]:
    """Two nodes of two idle GPUs unless said otherwise, and a running operator."""
    default = {"gpu-a": {"GPU-a0": 0, "GPU-a1": 0}, "gpu-b": {"GPU-b0": 0, "GPU-b1": 0}}
    async with played(Stage(FakeKube(), gpus if gpus is not None else default), operator, settings) as ours:
        yield ours


@contextlib.asynccontextmanager
async def played(ours: AnyStage, operator: bool, settings: Mapping[str, Any]) -> AsyncIterator[AnyStage]:
    """The stage while its controllers and kubelets, and if asked for an operator, are at work."""
    playing = asyncio.create_task(ours.play())
    try:
        nodes = len(ours.gpus)
        await until(lambda: len(ours.objects(api.POD)) == nodes, what="exporters run")
        if operator:
            await ours.start(**settings)
        yield ours
    finally:
        await ours.kill()
        playing.cancel()
        await asyncio.wait([playing])
        if not playing.cancelled():
            playing.result()
    assert ours.authorized.denied == [], "the chart's role doesn't grant them"
