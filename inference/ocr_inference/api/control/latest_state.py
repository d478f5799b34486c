"""The state document: composed from its sources, and published to all clients that watch it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from ocr_inference import __version__
from ocr_inference.api.control import telemetry
from ocr_inference.api.control.telemetry import Telemetry
from ocr_inference.config.live_settings import LiveSettingsOwner
from ocr_inference.config.settings import Settings
from ocr_inference.manager.manager import Manager
from ocr_inference.protocol.latest import Latest
from ocr_wire import state
from ocr_wire.states import DeviceKind


class LatestState:
    """State document of this server. `run` publishes it anew whenever one of its sources changes."""

    def __init__(
        self, settings: Settings, manager: Manager, live: LiveSettingsOwner, telemetry: Telemetry
    ) -> None:
        """Compose the first one; `run` isn't started here."""
        self._settings = settings
        self._manager = manager
        self._live = live
        self._telemetry = telemetry
        self._watchers = 0
        self.encoded = Latest(state.encode(self.document()))

    @property
    def watchers(self) -> int:
        """Clients that watch at the moment."""
        return self._watchers

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count a client that watches, while the block runs."""
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    def document(self) -> state.PodState:
        """Compose the state as it is now."""
        snapshot, promised = self._manager.snapshot(), self._settings.promised_gpu_uuids
        device = snapshot.device
        return state.PodState(
            pod=state.Identity(name=self._settings.pod_name, uid=self._settings.pod_uid),
            version=__version__,
            draining=snapshot.draining,
            device=state.Device(
                kind=DeviceKind(device.kind),
                uuid=device.uuid,
                product=device.product,
                memory_total_bytes=device.memory_total_bytes,
                memory_used_bytes=snapshot.memory_used_bytes,
                gpu=self._telemetry.latest.value,
                promised=promised,
                mismatch=telemetry.mismatch(promised, device),
            ),
            models=snapshot.models,
            queue=snapshot.queue,
            settings=self._live.echo.value,
            local_timeouts=self._live.local_timeouts.value,
        )

    async def run(self) -> None:
        """Follow the sources until cancelled."""
        sources = (
            self._manager.changes(),
            self._live.echo.follow(),
            self._live.local_timeouts.follow(),
            self._telemetry.latest.follow(),
        )
        async with asyncio.TaskGroup() as tasks:
            for source in sources:
                tasks.create_task(self._follow(source))

    async def _follow(self, source: AsyncIterator[object]) -> None:
        async for _ in source:
            self.encoded.publish(state.encode(self.document()))
