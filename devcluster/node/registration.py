"""The Node object and its Lease: what makes the API server's controllers believe in this node."""

import asyncio
import logging
import platform
import uuid
from datetime import UTC, datetime
from typing import Any

from devcluster.kube.api import Api, ApiError
from devcluster.node.decide import devices
from devcluster.node.settings import Settings
from ocr_wire import names

log = logging.getLogger(__name__)

LEASE_SECONDS = 40
RENEW_SECONDS = 5.0
MAX_PODS = 200
SHARED_ADDRESS = {"key": "devcluster/shared-address", "effect": "NoSchedule"}
"""Taint of a node whose pods have one address together."""
VERSION = "v1.36.3-devcluster"


class Registration:
    """The Node object and its Lease."""

    def __init__(self, settings: Settings, api: Api, port: int) -> None:
        self._settings = settings
        self._api = api
        self._port = port
        self._since = _now()
        self._boot = str(uuid.uuid4())

    async def keep(self) -> None:
        """Register, then renew for ever; registers again when the Node has been deleted."""
        while True:
            try:
                await self._write("True", "KubeletReady", "process node is posting ready status")
                await self._renew()
                delay = RENEW_SECONDS
            except ApiError as error:
                log.warning("node isn't renewed: %s", error)
                delay = 1.0
            await asyncio.sleep(delay)

    async def withdraw(self) -> None:
        """Report that the node is no longer ready, so that nothing more is bound to it."""
        self._since = _now()
        try:
            await self._write("False", "KubeletStopped", "process node has been stopped")
        except ApiError as error:
            log.warning("the Node object stays ready: %s", error)

    async def _write(self, ready: str, reason: str, message: str) -> None:
        path = f"/api/v1/nodes/{self._settings.name}"
        body = {"status": self._status(ready, reason, message)}
        try:
            await self._api.strategic(f"{path}/status", body)
        except ApiError as error:
            if error.status != 404:
                raise
            await self._api.create("/api/v1/nodes", self._node() | body)

    def _labels(self) -> dict[str, str]:
        settings = self._settings
        labels = {
            "kubernetes.io/hostname": settings.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": _architecture(),
        }
        if settings.gpus:
            labels |= {
                "nvidia.com/gpu.present": "true",
                names.LABEL_GPU_PRODUCT: settings.gpu_product,
                "nvidia.com/gpu.count": str(settings.gpus),
                names.LABEL_GPU_MEMORY: str(settings.gpu_memory_mib),
            }
        return labels

    def _node(self) -> dict[str, object]:
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self._settings.name, "labels": self._labels()},
            # Two servers of the same port can't be there at once, so nothing comes that doesn't ask for it.
            "spec": {"taints": [SHARED_ADDRESS]} if self._settings.pod_ip else {},
        }

    def _status(self, ready: str, reason: str, message: str) -> dict[str, object]:
        settings = self._settings
        capacity = {"cpu": str(settings.cpus), "memory": settings.memory, "pods": str(MAX_PODS)}
        if settings.gpus:
            capacity[devices.RESOURCE] = str(settings.gpus)
        identity = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{settings.name}.devcluster"))
        return {
            "capacity": capacity,
            "allocatable": capacity,
            # no Hostname: API servers prefer it to reach a node, and nobody resolves this one
            "addresses": [{"type": "InternalIP", "address": settings.node_ip}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._port}},
            "conditions": [
                {
                    "type": "Ready",
                    "status": ready,
                    "reason": reason,
                    "message": message,
                    "lastHeartbeatTime": _now(),
                    "lastTransitionTime": self._since,
                }
            ],
            "nodeInfo": {
                "machineID": identity,
                "systemUUID": identity,
                "bootID": self._boot,
                "kernelVersion": platform.release(),
                "osImage": "process node",
                "containerRuntimeVersion": "process://1",
                "kubeletVersion": VERSION,
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": _architecture(),
            },
        }

    async def _renew(self) -> None:
        name = self._settings.name
        collection = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        spec: dict[str, Any] = {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        try:
            await self._api.merge(f"{collection}/{name}", {"spec": spec})
        except ApiError as error:
            if error.status != 404:
                raise
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name},
                "spec": spec,
            }
            await self._api.create(collection, body)


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
