"""kopf's part: the process around the controller. It starts it, ends it in time, and logs in.

Handlers of activities only, a few lines each, that decide nothing. kopf watches no resource: see ADR 18.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from ocr_operator.kube import Credentials


class Work:
    """The controller's task, which kopf's activities start and stop."""

    def __init__(self, run: Callable[[], Awaitable[None]], stopping: asyncio.Event) -> None:
        """`stopping` is kopf's stop flag: it is set when the controller ends by itself."""
        self._run = run
        self._stopping = stopping
        self._task: asyncio.Task[None] | None = None
        self.over = asyncio.Event()
        """Set when it has stopped."""

    async def start(self) -> None:
        self._task = asyncio.create_task(self._until_end(), name="controller")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self.over.set()

    def ended_by_itself(self) -> bool:
        """Return whether it ended without being stopped; a fault of it is raised."""
        if self._task is None or self._task.cancelled():
            return False
        self._task.result()
        return True

    async def _until_end(self) -> None:
        try:
            await self._run()
        finally:
            self._stopping.set()


def registry(work: Work, credentials: Callable[[], Awaitable[Credentials]]) -> kopf.OperatorRegistry:
    """All handlers, in a registry of their own: two operators in one process don't share them."""
    handlers = kopf.OperatorRegistry()

    async def login(**_: Any) -> kopf.ConnectionInfo:
        known = await credentials()
        scheme, token = (known.authorization or " ").split(" ", 1)
        return kopf.ConnectionInfo(
            server=known.server,
            ca_path=known.ca_path,
            insecure=known.insecure,
            scheme=scheme or None,
            token=token or None,
            certificate_path=known.certificate_path,
            private_key_path=known.key_path,
        )

    async def startup(**_: Any) -> None:
        await work.start()

    async def cleanup(**_: Any) -> None:
        await work.stop()

    kopf.on.login(registry=handlers)(login)
    kopf.on.startup(registry=handlers)(startup)
    kopf.on.cleanup(registry=handlers)(cleanup)
    return handlers


def settings() -> kopf.OperatorSettings:
    """No log lines as Events, no scan for kinds and namespaces, short waits."""
    ours = kopf.OperatorSettings()
    ours.posting.enabled = False
    ours.scanning.disabled = True
    ours.networking.request_timeout = 30
    ours.networking.connect_timeout = 5
    ours.networking.error_backoffs = (0.2, 0.5, 1, 2, 3, 5)
    ours.queueing.exit_timeout = 0.5
    ours.process.ultimate_exiting_timeout = 10
    return ours
