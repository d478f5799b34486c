"""The owner of one pod: gives it what it needs, runs its containers in order, writes its status, sees it off."""

import asyncio
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from devcluster.kube.api import Api, ApiError
from devcluster.kube.model import Condition, Container, ContainerStatus, Pod, Terminated
from devcluster.machine import processes
from devcluster.node.decide import devices, podspec, podstatus, restarts, surroundings
from devcluster.node.decide.devices import GpuAllocations, Short
from devcluster.node.decide.images import Programs
from devcluster.node.decide.podspec import Context, Needs
from devcluster.node.decide.podstatus import PodSnapshot, Verdict
from devcluster.node.pods import process
from devcluster.node.pods.addresses import Addresses
from devcluster.node.pods.container import ContainerOwner, Earlier, timestamp
from devcluster.node.pods.events import Events
from devcluster.node.pods.podvolumes import PodVolumes
from devcluster.node.pods.sources import Fetched, Sources
from devcluster.node.settings import Settings
from ocr_wire import names

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.02
"""Changes this close together become one status write."""


@dataclass(frozen=True)
class Host:
    """Resources that a node gives to its pods."""

    settings: Settings
    api: Api
    http: aiohttp.ClientSession
    events: Events
    programs: Programs
    allocations: GpuAllocations
    addresses: Addresses
    base_env: Mapping[str, str]


class PodOwner:
    """Owner that runs one pod. `update` brings the pod's changes, `gone` its end, `leave` the node's end."""

    def __init__(self, pod: Pod, host: Host) -> None:
        self.pod = pod
        self.http, self.programs = host.http, host.programs
        self.pod_ip = ""
        self.stay: Sequence[str] = (str(host.settings.root), *host.programs.folders)
        self._host = host
        self._settings = host.settings
        self._folder = self._settings.root / "pods" / pod.metadata.uid
        self._volumes = PodVolumes(self._folder / "volumes", Sources(host.api, pod), self._context)
        self._gpus: Mapping[str, list[str]] = {}
        self._init: list[ContainerOwner] = []
        self._main: list[ContainerOwner] = []
        self._verdict: Verdict | None = None
        self._start_time = pod.status.start_time or timestamp()
        self._conditions: list[Condition] = pod.status.conditions
        self._dirty = asyncio.Event()
        self._stop = asyncio.Event()
        self._grace = float(pod.spec.termination_grace_period_seconds)
        self._present, self._leaving = True, False
        self._make_owners()

    # What others tell it

    def update(self, pod: Pod) -> None:
        """Take in a new version of the pod: its annotations reach the volumes at once, its deletion stops it."""
        self.pod = pod
        for owner, container in zip(
            (*self._init, *self._main), (*pod.spec.init_containers, *pod.spec.containers), strict=False
        ):
            owner.container = container
        self._volumes.update(pod)
        if pod.metadata.deletion_timestamp is not None:
            grace = pod.metadata.deletion_grace_period_seconds
            self._end(self._grace if grace is None else float(grace))
        self._dirty.set()

    def gone(self) -> None:
        """End the pod, which the API server no longer has."""
        self._present = False
        self._end(min(self._grace, 2.0))

    def leave(self, grace_seconds: float) -> None:
        """Stop the pod with the node; it stays bound to the node and runs again when the node is back."""
        self._leaving = True
        self._end(min(self._grace, grace_seconds))

    def _end(self, grace_seconds: float) -> None:
        if self._stop.is_set() and grace_seconds >= self._grace:
            return
        self._grace = grace_seconds
        self._stop.set()
        for owner in (*self._init, *self._main):
            owner.stop(grace_seconds, forever=not self._leaving)

    # The pod's life

    async def run(self) -> None:
        """Run the pod to its end, and leave nothing of it behind."""
        if self.pod.metadata.deletion_timestamp is not None:
            self.update(self.pod)
        try:
            async with asyncio.TaskGroup() as group:
                refreshing = self._volumes.refresh(lambda: self.pod)
                helpers = [group.create_task(self._publish()), group.create_task(refreshing)]
                if not self.pod.finished:
                    await self._live()
                self._host.allocations.release(self.pod.metadata.uid)
                self._dirty.set()
                await self._stop.wait()
                for helper in helpers:
                    helper.cancel()
            if self._present:
                await self._see_off()
        finally:
            self._host.allocations.release(self.pod.metadata.uid)
            self._host.addresses.give_back(self.pod_ip)
            await asyncio.to_thread(processes.sweep, [f"{process.CONTAINER_MARK}={self.pod.metadata.uid}"])
            if not self._leaving:
                await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _live(self) -> None:
        given = self._host.allocations.allocate(self.pod)
        if isinstance(given, Short):
            self._verdict = Verdict(
                "UnexpectedAdmissionError",
                "Allocate failed due to requested number of devices unavailable for "
                f"{devices.RESOURCE}. Requested: {given.requested}, Available: {given.available}, which is unexpected",
            )
            self.event("Warning", self._verdict.reason, self._verdict.message)
            return
        self._gpus = given
        host_network = self.pod.spec.host_network
        self.pod_ip = (
            self._settings.node_ip if host_network else self._host.addresses.take(self.pod.status.pod_ip)
        )
        self._dirty.set()
        await self._volumes.prepare(
            self.pod, self._stop, lambda why: self.event("Warning", "FailedMount", why)
        )
        self._dirty.set()
        async with asyncio.TaskGroup() as group:
            sidecars = [owner for owner in self._init if owner.view.sidecar]
            for owner in self._init:
                if self._stop.is_set():
                    return
                task = group.create_task(owner.run())
                if owner in sidecars:
                    await self._started(owner)
                else:
                    await task
                    if not podstatus.initialized([owner.view]):
                        break
            else:
                if not self._stop.is_set():
                    await self._run_main()
            for owner in sidecars:
                owner.stop(self._grace, forever=not self._leaving)

    async def _run_main(self) -> None:
        async with asyncio.TaskGroup() as group:
            for owner in self._main:
                group.create_task(owner.run())

    async def _started(self, sidecar: ContainerOwner) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (sidecar.started, self._stop)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _make_owners(self) -> None:
        pod, grace = self.pod, self._grace
        for containers, owners, statuses in (
            (pod.spec.init_containers, self._init, pod.status.init_container_statuses),
            (pod.spec.containers, self._main, pod.status.container_statuses),
        ):
            known = {status.name: status for status in statuses}
            for container in containers:
                policy = restarts.of_container(
                    pod.spec.restart_policy, container.restart_policy, init=owners is self._init
                )
                earlier = _earlier(known.get(container.name))
                owners.append(ContainerOwner(container, policy, self, grace_seconds=grace, earlier=earlier))

    async def _see_off(self) -> None:
        """Write the last status and, unless the node is leaving, take the pod out of the API server."""
        delay = 0.2
        while self._present:
            try:
                if not self.pod.finished:
                    await self._write_status()
                if not self._leaving or self.pod.metadata.deletion_timestamp is not None:
                    body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.pod.metadata.uid}}
                    await self._host.api.request("DELETE", self._path(), body)
            except ApiError as error:
                if error.status in {404, 409}:
                    return  # it is gone, or another one has its name
                log.warning("pod %s can't be seen off yet: %s", self.pod.key, error)
                if self._leaving:
                    return
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)
            else:
                return

    # Status

    def changed(self) -> None:
        self._dirty.set()

    def event(self, kind: str, reason: str, message: str, container: str = "") -> None:
        self._host.events.add(self.pod, kind, reason, message, container)

    def _path(self) -> str:
        return f"/api/v1/namespaces/{self.pod.metadata.namespace}/pods/{self.pod.metadata.name}"

    async def _publish(self) -> None:
        delay, last = 0.2, None
        while True:
            await self._dirty.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._dirty.clear()
            if self.pod.finished:
                continue
            try:
                if (status := self._status()) != last:
                    await self._write_status(status)
                    last = status
                delay = 0.2
            except ApiError as error:
                if error.status == 404:
                    continue  # the pod is gone: the watch says so
                log.warning("status of pod %s isn't written: %s", self.pod.key, error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)
                self._dirty.set()

    def _status(self) -> podstatus.Json:
        seen = PodSnapshot(
            pod=self.pod,
            init=[owner.view for owner in self._init],
            main=[owner.view for owner in self._main],
            pod_ip=self.pod_ip,
            host_ip=self._settings.node_ip,
            start_time=self._start_time,
            sandboxed=self._volumes.ready,
            before=self._conditions,
            verdict=self._verdict,
        )
        return podstatus.build(seen, timestamp())

    async def _write_status(self, status: podstatus.Json | None = None) -> None:
        status = status or self._status()
        await self._host.api.strategic(
            f"{self._path()}/status", {"metadata": {"uid": self.pod.metadata.uid}, "status": status}
        )
        self._conditions = msgspec.convert(status["conditions"], list[Condition])

    # What its containers ask for

    async def context(self, needs: Needs) -> Context:
        return self._context(await self._volumes.fetch(needs))

    def _context(self, fetched: Fetched) -> Context:
        return Context(
            pod=self.pod,
            node_name=self._settings.name,
            host_ip=self._settings.node_ip,
            pod_ip=self.pod_ip,
            secrets=fetched.secrets,
            config_maps=fetched.config_maps,
            tokens=fetched.tokens,
        )

    def folders(self) -> Mapping[str, str]:
        return self._volumes.folders(self.pod)

    def home(self, container: Container) -> Path:
        home = self._folder / "homes" / container.name
        home.mkdir(parents=True, exist_ok=True)
        return home

    def make(self, places: Iterable[str]) -> None:
        for place in places:
            if not Path(place).exists():
                Path(place).mkdir(parents=True)

    def log_file(self, container: str, restarts: int) -> Path:
        return self._folder / "logs" / container / f"{restarts}.log"

    def given(self, container: Container) -> Mapping[str, str]:
        home = str(self.home(container))
        name = self.pod.spec.hostname or self.pod.metadata.name
        return {
            **self._host.base_env,
            process.CONTAINER_MARK: self.pod.metadata.uid,
            "HOME": home,
            "HOSTNAME": name,
            names.ENV_HOST: self.pod_ip,
        }

    def finish(self, container: Container, values: dict[str, str], places: Mapping[str, str]) -> None:
        settings, gpus = self._settings, self._host.allocations.gpus
        held = self._gpus.get(container.name, ())
        values |= surroundings.gpu_variables(settings.name, gpus, settings.gpu_folder, held, values)
        config = self.home(container) / "kubeconfig"
        values |= surroundings.place_variables(values, places, config)
        if values.get("KUBECONFIG") == str(config):
            account = places[podspec.TOKEN_MOUNT]
            namespace = self.pod.metadata.namespace
            config.write_text(surroundings.kubeconfig(self._host.api.server, namespace, account))

    # What the log endpoint asks for

    def logs(self, container: str, *, previous: bool) -> tuple[Path, ContainerOwner] | None:
        """Return the log of a container's current or previous run, and the container's owner."""
        for owner in (*self._init, *self._main):
            if owner.view.container.name == container:
                waits = isinstance(owner.view.state, podstatus.Waiting)
                # while a container waits to run again, the run that ended last is the previous one
                run = owner.view.restarts - 1 if previous and not waits else owner.view.restarts
                return self.log_file(container, run), owner
        return None


def _earlier(status: ContainerStatus | None) -> Earlier | None:
    """Return the record of a container that the API server knows from before: its processes have been killed since."""
    if status is None or (status.state.waiting is not None and not status.restart_count):
        return None
    if status.state.terminated is not None:
        return Earlier(status.restart_count, status.state.terminated)
    lost = Terminated(
        exit_code=137, reason="ContainerStatusUnknown", message="the process node was restarted"
    )
    return Earlier(status.restart_count, lost)
