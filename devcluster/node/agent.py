"""The node: registers itself and gives every pod bound to it an owner.

Left out on purpose: images (programs come from the virtual environment), isolation of any kind, resource limits,
security contexts, persistent volumes, `kubectl exec` and `attach`, termination message files, and service
addresses (a pod is reached at its own).
"""

import asyncio
import contextlib
import logging
import os
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import msgspec

from devcluster.kube import model
from devcluster.kube.api import Api, Event, access
from devcluster.machine import processes
from devcluster.machine.layout import CHECKOUT, NODE_MARK
from devcluster.node.decide import devices
from devcluster.node.decide.devices import GpuAllocations
from devcluster.node.decide.images import Programs
from devcluster.node.endpoint.server import Endpoint
from devcluster.node.pods import gpufolder, process
from devcluster.node.pods.addresses import Addresses
from devcluster.node.pods.events import Events
from devcluster.node.pods.pod import Host, PodOwner
from devcluster.node.registration import Registration
from devcluster.node.settings import Settings

log = logging.getLogger(__name__)


class Agent:
    """One process node. `run` is its whole life."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pods: dict[str, tuple[PodOwner, asyncio.Task[None]]] = {}
        self._first_sync = True

    async def run(self, stop: asyncio.Event) -> None:
        """Run pods until `stop` is set, then end them gracefully and leave."""
        settings = self._settings
        settings.root.mkdir(parents=True, exist_ok=True)
        if left := await asyncio.to_thread(processes.sweep, [f"{NODE_MARK}={settings.root}"]):
            log.warning("killed %d processes that an earlier run had left behind", left)
        gpus = devices.simulated(settings.name, settings.gpus, settings.gpu_product, settings.gpu_memory_mib)
        gpufolder.lay_out(settings.gpu_folder, gpus)
        keeper = process.keeper(settings.root)
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        endpoint = Endpoint(lambda: [owner for owner, _ in self._pods.values()])
        try:
            async with (
                Api(access(settings.kubeconfig)) as api,
                aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http,
                endpoint.serve(settings) as port,
            ):
                events = Events(api, settings.name)
                host = Host(
                    settings=settings,
                    api=api,
                    http=http,
                    events=events,
                    programs=Programs(Path(sys.executable).parent),
                    allocations=GpuAllocations(gpus),
                    addresses=Addresses(settings.ip_prefix, settings.pod_ip),
                    base_env=_base_env(settings, api.server),
                )
                registration = Registration(settings, api, port)
                async with asyncio.TaskGroup() as group:
                    helpers = [
                        group.create_task(events.run()),
                        group.create_task(registration.keep()),
                        group.create_task(self._follow(host, group)),
                    ]
                    await stop.wait()
                    helpers.pop().cancel()
                    await self._leave()
                    await registration.withdraw()
                    for helper in helpers:
                        helper.cancel()
        finally:
            assert keeper.stdin is not None
            keeper.stdin.close()
            await asyncio.to_thread(keeper.wait)

    async def _follow(self, host: Host, group: asyncio.TaskGroup) -> None:
        selector = {"fieldSelector": f"spec.nodeName={self._settings.name}"}
        async for event in host.api.follow("/api/v1/pods", selector):
            self._take_in(event, host, group)

    def _take_in(self, event: Event, host: Host, group: asyncio.TaskGroup) -> None:
        seen = set()
        for raw in event.objects:
            try:
                pod = model.pod(raw)
            except msgspec.ValidationError as error:
                log.error("a pod can't be read and is ignored: %s", error)  # noqa: TRY400  the message says it all
                continue
            uid = pod.metadata.uid
            seen.add(uid)
            if event.kind == "gone":
                if uid in self._pods:
                    self._pods[uid][0].gone()
            elif uid in self._pods:
                self._pods[uid][0].update(pod)
            else:
                owner = PodOwner(pod, host)
                self._pods[uid] = owner, group.create_task(self._own(owner))
        if event.kind == "synced":
            for uid in self._pods.keys() - seen:
                self._pods[uid][0].gone()
            if self._first_sync:
                self._first_sync = False
                self._forget_all_but(seen)

    def _forget_all_but(self, uids: set[str]) -> None:
        """Remove the folders of pods that ended while no node process ran."""
        with contextlib.suppress(FileNotFoundError):
            for folder in (self._settings.root / "pods").iterdir():
                if folder.name not in uids:
                    shutil.rmtree(folder, ignore_errors=True)

    async def _own(self, owner: PodOwner) -> None:
        """Keep a failing pod from harming others: its owner's error is logged, and its processes have ended."""
        log.info("pod %s: taken on", owner.pod.key)
        try:
            await owner.run()
        except Exception:
            log.exception("pod %s: its owner failed", owner.pod.key)
        finally:
            self._pods.pop(owner.pod.metadata.uid, None)
        log.info("pod %s: done", owner.pod.key)

    async def _leave(self) -> None:
        tasks = [task for _, task in self._pods.values()]
        for owner, _ in self._pods.values():
            owner.leave(self._settings.stop_seconds)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._settings.stop_seconds + 10)
            for task in late:
                task.cancel()  # its containers are killed by that


def _base_env(settings: Settings, server: str) -> dict[str, str]:
    """Variables of every container. Nothing else of the node's own environment reaches a pod."""
    address = urlsplit(server)
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": str(CHECKOUT),  # `python -m devcluster.exporter`
        "PYTHONUNBUFFERED": "1",
        "LANG": "C.UTF-8",
        "KUBERNETES_SERVICE_HOST": address.hostname or "",
        "KUBERNETES_SERVICE_PORT": str(address.port or 443),
        NODE_MARK: str(settings.root),
    }
