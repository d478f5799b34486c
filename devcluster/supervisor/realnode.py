"""The one real node of a cluster: containerd, then the kubelet, with what both need of the machine."""

from pathlib import Path
from typing import Final

from devcluster.container import configuration, host, images
from devcluster.controlplane.components import Component, ControlPlane
from devcluster.machine.network import NodeNetwork
from devcluster.supervisor.order import ContainerTools


class RealNode:
    """Commands and files of the node; starting and ending processes is the assembly's part."""

    def __init__(self, tools: ContainerTools, plan: ControlPlane, network: NodeNetwork, name: str) -> None:
        self._tools = tools
        self._plan = plan
        self.network: Final = network
        self.name: Final = name

    def prepare(self) -> None:
        """Make what the API server needs at its start: the addresses, and its certificate for the kubelet."""
        certificate, key = self._plan.kubelet_client
        host.client_certificate(certificate, key)
        host.prepare(self.network, Path(self._tools.shim), certificate)
        images.pause_archive(Path(self._tools.pause), self._pause)

    @property
    def containerd(self) -> Component:
        return Component(
            "containerd", configuration.containerd_command(Path(self._tools.containerd), self.network)
        )

    @property
    def kubelet(self) -> Component:
        credentials = self._plan.layout.credentials(self.name)
        return Component(
            self.name,
            configuration.kubelet_command(Path(self._tools.kubelet), self.network, self.name, credentials),
        )

    @property
    def imports(self) -> tuple[tuple[str, ...], ...]:
        """Return the commands that give containerd its images."""
        archives = (self._pause, *map(Path, self._tools.images))
        return tuple(
            images.import_command(Path(self._tools.ctr), self.network, archive) for archive in archives
        )

    async def answers(self) -> bool:
        """Return whether containerd listens."""
        return configuration.socket(self.network).is_socket()

    def clear(self) -> None:
        """Give back what the node took of the machine; containerd and the kubelet must have ended."""
        host.clear(self.network)

    @property
    def _pause(self) -> Path:
        return self.network.folder / "pause.tar"
