"""The addresses of a real node, which pods in network namespaces can reach: a bridge, and cluster IPs that are local.

Nothing is forwarded, rewritten or let out of the machine, so no firewall is touched: pods reach each other and the
node by the bridge, and cluster IPs belong to the node, where the API server and the service proxy listen.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class NodeNetwork:
    """Names and addresses that belong to the cluster with this block."""

    block: int

    @property
    def bridge(self) -> str:
        return f"ocr{self.block}"

    @property
    def pods(self) -> str:
        return f"10.244.{self.block}.0/24"

    @property
    def node(self) -> str:
        """The node's own address, at the bridge."""
        return f"10.244.{self.block}.1"

    @property
    def services(self) -> str:
        return f"10.96.{self.block}.0/24"

    @property
    def api_server(self) -> str:
        """The first cluster IP, which Kubernetes gives to the Service `kubernetes`: the server itself listens there."""
        return f"10.96.{self.block}.1"

    @property
    def folder(self) -> Path:
        """Return the place of mounts and sockets, not in the cluster's folder: names of sockets may only be short."""
        return Path(f"/var/lib/ocr-devcluster/{self.block}")

    @property
    def kernel(self) -> Path:
        """Return the file that has the kernel's settings from before the first node, which all nodes share."""
        return self.folder.parent / "kernel.json"

    @property
    def cgroup(self) -> str:
        """The parent of the containers' cgroups, by which their processes are found."""
        return f"/ocr-devcluster-{self.block}"

    def commands_up(self) -> tuple[tuple[str, ...], ...]:
        """Return the commands that set it up."""
        return (
            ("ip", "link", "add", self.bridge, "type", "bridge"),
            ("ip", "address", "add", f"{self.node}/24", "dev", self.bridge),
            ("ip", "link", "set", self.bridge, "up"),
            ("ip", "route", "add", "local", self.services, "dev", "lo"),
        )

    def commands_down(self) -> tuple[tuple[str, ...], ...]:
        """Return the commands that remove it; each may find nothing."""
        return (
            ("ip", "link", "delete", self.bridge),
            ("ip", "route", "delete", "local", self.services, "dev", "lo"),
        )
