"""The volumes of one pod on disk: made before its containers start, and kept up to what the API server says."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from devcluster.kube.api import ApiError
from devcluster.kube.model import Pod
from devcluster.node.decide import podspec, restarts
from devcluster.node.decide.podspec import ConfigError, Context, File, Needs
from devcluster.node.pods import volumes
from devcluster.node.pods.pauses import pause
from devcluster.node.pods.sources import Fetched, Sources

log = logging.getLogger(__name__)

REFRESH_SECONDS = 3.0
"""How often mounted Secrets and ConfigMaps are read again (a real kubelet takes up to a minute)."""


class PodVolumes:
    """Volumes of a pod, written by its owner only; `context` makes the pod's texts from what has been fetched."""

    def __init__(self, folder: Path, sources: Sources, context: Callable[[Fetched], Context]) -> None:
        self.ready = False
        self._folder = folder
        self._sources = sources
        self._context = context
        self._fetched = Fetched()
        self._written: dict[str, dict[str, File]] = {}

    def folders(self, pod: Pod) -> Mapping[str, str]:
        """Return the folder of each volume."""
        return {
            volume.name: volume.host_path.path if volume.host_path else str(self._folder / volume.name)
            for volume in pod.spec.volumes
        }

    async def prepare(self, pod: Pod, stop: asyncio.Event, failed: Callable[[str], None]) -> None:
        """Make all volumes, however long what they need takes to come, unless stopped."""
        failures = 0
        while not stop.is_set():
            try:
                self._fetched = await self.fetch(podspec.volume_needs(pod))
                self._write(pod)
            except (ConfigError, OSError) as error:
                if failures:
                    failed(f"MountVolume.SetUp failed: {error}")
                await pause(stop, restarts.retry_seconds(failures))
                failures += 1
            else:
                self.ready = True
                return

    def update(self, pod: Pod) -> None:
        """Show a new version of the pod, with the objects fetched last, at once."""
        if self.ready:
            try:
                self._write(pod)
            except (ConfigError, OSError) as error:
                log.warning("pod %s: volumes keep their last content: %s", pod.key, error)

    async def refresh(self, current: Callable[[], Pod]) -> None:
        """Fetch and show again, for ever."""
        needs = podspec.volume_needs(current())
        while needs != Needs():
            await asyncio.sleep(REFRESH_SECONDS)
            if self.ready:
                try:
                    self._fetched = await self.fetch(needs)
                except ConfigError as error:
                    log.info("pod %s: volumes keep their last content: %s", current().key, error)
                self.update(current())

    async def fetch(self, needs: Needs) -> Fetched:
        """Return what exists of `needs`; raises `ConfigError` when the API server doesn't answer."""
        try:
            return await self._sources.fetch(needs)
        except ApiError as error:
            raise ConfigError(str(error)) from error

    def _write(self, pod: Pod) -> None:
        """Bring every volume up to date; unchanged ones aren't touched."""
        context = self._context(self._fetched)
        for volume in pod.spec.volumes:
            files = podspec.volume_files(volume, context)
            folder = self._folder / volume.name
            if volume.host_path is not None:
                volumes.host_folder(volume.host_path)
            elif files is None:
                folder.mkdir(parents=True, exist_ok=True)
            elif self._written.get(volume.name) != files:
                volumes.publish(folder, files)
                self._written[volume.name] = files
