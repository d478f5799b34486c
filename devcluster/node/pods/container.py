"""The owner of one container: prepares it, starts it, follows its probes, ends it, starts it again."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import aiohttp
import msgspec

from devcluster.kube.model import Container, Terminated
from devcluster.node.decide import podspec, probes, restarts
from devcluster.node.decide.images import Programs, Unknown
from devcluster.node.decide.podspec import Command, ConfigError, Context, Needs
from devcluster.node.decide.podstatus import Running, View, Waiting, exited
from devcluster.node.decide.restarts import Backoff, Policy
from devcluster.node.pods import process
from devcluster.node.pods.pauses import pause
from devcluster.node.pods.probing import Asker, follow
from devcluster.node.pods.process import Process

log = logging.getLogger(__name__)

MESSAGE_BYTES = 2048
"""How much of a failed container's log becomes its termination message, where it asks for that."""


def timestamp() -> str:
    """Return the time now, as the API server writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Surroundings(Protocol):
    """Surroundings that a container gets from its pod."""

    http: aiohttp.ClientSession
    programs: Programs
    pod_ip: str
    stay: Sequence[str]
    """Folders of this machine that commands mean as they stand, even where a volume is mounted above them."""

    async def context(self, needs: Needs) -> Context:
        """Return the pod with the objects named in `needs`, fetched now."""
        ...

    def given(self, container: Container) -> Mapping[str, str]:
        """Return the variables that the container's own override."""
        ...

    def finish(self, container: Container, values: dict[str, str], places: Mapping[str, str]) -> None:
        """Add the variables that depend on the container's own; raises `ConfigError`."""
        ...

    def folders(self) -> Mapping[str, str]:
        """Return the folder of each volume."""
        ...

    def home(self, container: Container) -> Path:
        """Return the folder a container starts in, unless it names one."""
        ...

    def make(self, places: Iterable[str]) -> None:
        """Make the mounted folders that aren't there yet: `subPath`s of a folder that the pod owns."""
        ...

    def log_file(self, container: str, restarts: int) -> Path: ...

    def event(self, kind: str, reason: str, message: str, container: str = "") -> None: ...

    def changed(self) -> None:
        """Report that some view has changed, so that the pod is checked again."""
        ...


@dataclass(frozen=True)
class Earlier:
    """Record of a container that the API server has from before this node process."""

    restarts: int
    ended: Terminated


class ContainerOwner:
    """Owner that runs one container from its first start to its last end. `view` is written by `run` only."""

    def __init__(
        self,
        container: Container,
        policy: Policy,
        pod: Surroundings,
        *,
        grace_seconds: float,
        earlier: Earlier | None = None,
    ) -> None:
        self.container = container
        """Replaced by the pod's owner when the pod's spec changes; taken up at the next start."""
        self._policy = policy
        self._pod = pod
        self._grace = grace_seconds
        self._stop = asyncio.Event()
        self._forever = False
        self._process: Process | None = None
        self._backoff = Backoff()
        self._run = 0
        self.started = asyncio.Event()
        """Set while a process runs that has passed its startup probe."""
        self.view = View(container, Waiting("ContainerCreating"))
        if earlier is not None:
            over = not restarts.again(policy, earlier.ended.exit_code)
            state = earlier.ended if over else Waiting("ContainerCreating")
            last = None if over else earlier.ended
            self.view = View(container, state, last=last, restarts=earlier.restarts, over=over)
            self._run = earlier.restarts + 1

    def stop(self, grace_seconds: float, *, forever: bool = True) -> None:
        """End the container: its hook, SIGTERM, SIGKILL when the grace is over. A later call only shortens that.

        `forever=False` leaves its end open: another node process will start it again.
        """
        self._forever = forever
        if self._stop.is_set():
            asyncio.get_running_loop().call_later(grace_seconds, self._kill)
        self._grace = min(self._grace, grace_seconds) if self._stop.is_set() else grace_seconds
        self._stop.set()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _show(self, **changes: object) -> None:
        changed = replace(self.view, container=self.container, **changes)  # type: ignore[arg-type]
        if changed != self.view:
            self.view = changed
            self._pod.changed()

    async def run(self) -> None:
        """Run the container until it has ended for good, or for as long as this node lives."""
        while not self.view.over:
            begun = time.monotonic()
            prepared = await self._prepare()
            if prepared is None:
                break
            ended = await self._live(*prepared)
            again = not self._stop.is_set() and restarts.again(self._policy, ended.exit_code)
            final = self._forever if self._stop.is_set() else not again
            self._show(state=ended, started=False, ready=False, over=final)
            if not again:
                return
            self._backoff = self._backoff.after_run(time.monotonic() - begun)
            await self._crashed(ended)
            self._run += 1
        self._show(over=self.view.over or self._forever)

    async def _crashed(self, ended: Terminated) -> None:
        delay = self._backoff.delay
        message = f"back-off {delay:g}s restarting failed container={self.container.name}"
        self._show(state=Waiting("CrashLoopBackOff", message), last=ended)
        if self._backoff.failures > 1:
            self._pod.event("Warning", "BackOff", message, self.container.name)
        await pause(self._stop, delay)

    async def _prepare(self) -> tuple[Command, Asker] | None:
        """Try until the container can be started; None when it is stopped before that."""
        failures = 0
        while not self._stop.is_set():
            resolved = self._pod.programs.resolve(
                self.container.image, self.container.command, self.container.args
            )
            if isinstance(resolved, Unknown):
                self._refuse_image(resolved, first=failures == 0)
                await pause(self._stop, restarts.FIRST_SECONDS * 2 ** min(failures, 4))
            else:
                try:
                    return await self._command(resolved.argv)
                except ConfigError as error:
                    if failures:
                        self._show(state=Waiting("CreateContainerConfigError", str(error)))
                        self._pod.event("Warning", "Failed", f"Error: {error}", self.container.name)
                    await pause(self._stop, restarts.retry_seconds(failures))
            failures += 1
        return None

    def _refuse_image(self, unknown: Unknown, *, first: bool) -> None:
        image = self.container.image
        if first:
            self._show(state=Waiting("ErrImagePull", unknown.message))
            self._pod.event(
                "Warning", "Failed", f'Failed to pull image "{image}": {unknown.message}', self.container.name
            )
        else:
            message = f'Back-off pulling image "{image}": ErrImagePull: {unknown.message}'
            self._show(state=Waiting("ImagePullBackOff", message))
            self._pod.event("Normal", "BackOff", f'Back-off pulling image "{image}"', self.container.name)

    async def _command(self, argv: Sequence[str]) -> tuple[Command, Asker]:
        container = self.container
        context = await self._pod.context(podspec.environment_needs(container))
        home = self._pod.home(container)
        values = podspec.environment(container, context, self._pod.given(container))
        places = podspec.mounted_at(container.volume_mounts, self._pod.folders(), values)
        self._pod.finish(container, values, places)
        self._pod.make(places.values())
        stay = {place: place for place in self._pod.stay}

        def runs(words: Sequence[str]) -> Command:
            return podspec.command(words, container, values, places | stay, str(home))

        return runs([podspec.expand(word, values) for word in argv]), Asker(
            self._pod.http, self._pod.pod_ip, container.ports, runs
        )

    async def _live(self, command: Command, asker: Asker) -> Terminated:
        """Run the container once."""
        name, count, started_at = self.container.name, self._run, timestamp()
        output = self._pod.log_file(name, count)
        try:
            running = self._process = process.start(command, output)
        except OSError as error:
            self._pod.event("Warning", "Failed", f"Error: {error}", name)
            self._show(restarts=count)
            return Terminated(
                exit_code=128,
                reason="StartError",
                message=str(error),
                started_at=started_at,
                finished_at=timestamp(),
            )
        container_id = f"process://{running.pid}-{count}"
        self._pod.log_file(name, count - 2).unlink(
            missing_ok=True
        )  # `kubectl logs --previous` reaches back by one
        self._show(
            state=Running(started_at), running_id=container_id, restarts=count, started=False, ready=False
        )
        self._pod.event("Normal", "Started", f"Started container {name}", name)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._heed(running, asker)),
                    group.create_task(self._obey(running, asker)),
                ]
                code = await running.wait()
                for task in tasks:
                    task.cancel()
        finally:
            running.kill()
            self.started.clear()
        ended = exited(code, started_at=started_at, finished_at=timestamp(), container_id=container_id)
        if code and self.container.termination_message_policy == "FallbackToLogsOnError":
            ended = msgspec.structs.replace(ended, message=_tail(output))
        log.info("container %s ended: %s, exit code %d", output.parent, ended.reason, ended.exit_code)
        return ended

    async def _obey(self, running: Process, asker: Asker) -> None:
        await self._stop.wait()
        self._pod.event("Normal", "Killing", f"Stopping container {self.container.name}", self.container.name)
        await self._end(running, asker, self._grace)

    async def _end(self, running: Process, asker: Asker, grace_seconds: float) -> None:
        """End the container within the grace: hook, SIGTERM, wait, SIGKILL."""
        deadline = time.monotonic() + grace_seconds
        hook = self.container.lifecycle.pre_stop if self.container.lifecycle else None
        if hook is not None and grace_seconds > 0:
            answer = await asker.ask(hook, grace_seconds)
            if not answer.success:
                self._pod.event("Warning", "FailedPreStopHook", answer.detail, self.container.name)
        running.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                await running.wait()
        except TimeoutError:
            running.kill()

    async def _heed(self, running: Process, asker: Asker) -> None:
        """Follow the container's probes: startup first, then the others side by side."""
        startup = self.container.startup_probe
        if startup is not None:
            async for verdict in follow(
                startup, probes.Kind.STARTUP, lambda: asker.ask(startup, startup.timeout_seconds)
            ):
                if verdict.passing is False:
                    await self._condemn(running, asker, probes.Kind.STARTUP, verdict.answer.detail)
                    return
                if verdict.passing:
                    break
        self._show(started=True, ready=self.container.readiness_probe is None)
        self.started.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stay_alive(running, asker))
            group.create_task(self._be_ready(asker))

    async def _stay_alive(self, running: Process, asker: Asker) -> None:
        probe = self.container.liveness_probe
        if probe is None:
            return
        async for verdict in follow(
            probe, probes.Kind.LIVENESS, lambda: asker.ask(probe, probe.timeout_seconds)
        ):
            if not verdict.answer.success:
                self._unhealthy(probes.Kind.LIVENESS, verdict.answer.detail)
            if verdict.passing is False and not self._stop.is_set():
                await self._condemn(running, asker, probes.Kind.LIVENESS, verdict.answer.detail)
                return

    async def _be_ready(self, asker: Asker) -> None:
        probe = self.container.readiness_probe
        if probe is None:
            return
        async for verdict in follow(
            probe, probes.Kind.READINESS, lambda: asker.ask(probe, probe.timeout_seconds)
        ):
            if not verdict.answer.success:
                self._unhealthy(probes.Kind.READINESS, verdict.answer.detail)
            self._show(ready=verdict.passing is True)

    def _unhealthy(self, kind: probes.Kind, detail: str) -> None:
        self._pod.event(
            "Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {detail}", self.container.name
        )

    async def _condemn(self, running: Process, asker: Asker, kind: probes.Kind, detail: str) -> None:
        """End this run after a probe has failed for good; the restart policy decides what follows."""
        name = self.container.name
        self._unhealthy(kind, detail)
        self._pod.event("Normal", "Killing", f"Container {name} failed {kind} probe, will be restarted", name)
        probe = self.container.startup_probe if kind is probes.Kind.STARTUP else self.container.liveness_probe
        own = probe.termination_grace_period_seconds if probe is not None else None
        await self._end(running, asker, self._grace if own is None else own)


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - MESSAGE_BYTES, 0))
        return file.read().decode(errors="replace")
