"""etcd, API server, controller manager and scheduler as plain processes.

etcd listens on a Unix socket in the cluster's own folder, which only its owner can open: nothing but the API server,
which asks for a token, is reachable by other users of the machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devcluster.controlplane import access
from devcluster.machine.addresses import Block, free_port
from devcluster.machine.layout import Layout
from devcluster.machine.network import NodeNetwork
from devcluster.tools.toolbox import ControlPlaneTools

_SOCKET: Final = "unix://client:0"
"""etcd wants host:port also for a Unix socket, and takes the two as the file's name, relative to its working folder."""

_PEER_SOCKET: Final = "unix://peer:0"

_PROCESS_NODES: Final = (
    # Endpoints and EndpointSlices with loopback addresses, which all pods here have, are refused by the API server as
    # invalid. These controllers would try again for ever, with a Warning event on the Service each time. Nothing here
    # needs endpoints: the service proxy finds pods by itself.
    "-endpoints-controller",
    "-endpointslice-controller",
    "-endpointslice-mirroring-controller",
)

_SOLE: Final = (
    "--leader-elect=false",
    "--secure-port=0",
    "--profiling=false",
    # The defaults, 20 and 50 requests a second, are for large clusters; here they would add seconds to every start.
    "--kube-api-qps=500",
    "--kube-api-burst=1000",
)
"""Flags of the controller manager and the scheduler: there is one of each, and no client calls them."""


@dataclass(frozen=True)
class Component:
    """Process of the control plane."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class ControlPlane:
    """Command lines and files of one control plane; starting them is the supervisor's part."""

    layout: Layout
    tools: ControlPlaneTools
    address: str
    port: int
    users: Mapping[str, access.User]
    node_grace_seconds: int = 0
    """Silence of a node after which it counts as lost; 0 is Kubernetes' default."""
    network: NodeNetwork | None = None
    """That of a real node, whose pods must reach the API server; None: everything is at loopback addresses."""

    @classmethod
    def plan(
        cls,
        layout: Layout,
        tools: ControlPlaneTools,
        block: Block,
        nodes: tuple[str, ...],
        *,
        node_grace_seconds: int = 0,
        network: NodeNetwork | None = None,
    ) -> "ControlPlane":
        """Return a control plane with a port and credentials."""
        if network is not None:  # the address and port of the Service `kubernetes`
            return cls(
                layout, tools, network.api_server, 443, access.users(nodes), node_grace_seconds, network
            )
        address = block.api_server
        port = free_port(address, 6443)
        return cls(layout, tools, address, port, access.users(nodes), node_grace_seconds)

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.port}"

    def write_secrets(self) -> None:
        """Write what the API server reads at start: the signing key and the token file."""
        for path, text in (
            (self._signing_key, access.signing_key()),
            (self._tokens, access.token_file(self.users)),
        ):
            _write_private(path, text)
        self.layout.etcd.mkdir(mode=0o700, exist_ok=True)

    def write_kubeconfigs(self) -> None:
        """Write the kubeconfig of each user; the API server must have made its certificate."""
        authority = self.layout.authority.read_bytes()
        for key, user in self.users.items():
            target = self.layout.kubeconfig if key == access.ADMIN else self.layout.credentials(key)
            _write_private(target, access.kubeconfig(self.url, authority, user))

    @property
    def etcd(self) -> Component:
        """Return etcd, which starts first: an API server that finds no etcd ends."""
        return Component(
            "etcd",
            (
                str(self.tools.etcd),
                "--name=devcluster",
                f"--data-dir={self.layout.etcd / 'data'}",
                f"--listen-client-urls={_SOCKET}",
                f"--advertise-client-urls={_SOCKET}",
                f"--listen-peer-urls={_PEER_SOCKET}",
                f"--initial-advertise-peer-urls={_PEER_SOCKET}",
                f"--initial-cluster=devcluster={_PEER_SOCKET}",
                "--unsafe-no-fsync",  # a killed cluster is thrown away, never recovered
                "--log-level=warn",
            ),
        )

    @property
    def etcd_socket(self) -> Path:
        return self.layout.etcd / _SOCKET.removeprefix("unix://")

    @property
    def api_server(self) -> Component:
        return Component(
            "kube-apiserver",
            (
                str(self.tools.kube_apiserver),
                f"--etcd-servers={_SOCKET}",
                f"--bind-address={self.address}",
                f"--advertise-address={self.address}",
                f"--secure-port={self.port}",
                f"--cert-dir={self.layout.certificates}",
                f"--token-auth-file={self._tokens}",
                f"--service-account-key-file={self._signing_key}",
                f"--service-account-signing-key-file={self._signing_key}",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                # As many as the service proxy has addresses.
                f"--service-cluster-ip-range={self.network.services if self.network else '10.96.0.0/17'}",
                # Its own endpoint would be a loopback address, or a cluster IP: both are refused.
                "--endpoint-reconciler-type=none",
                *self._to_kubelet,
                "--kubelet-preferred-address-types=InternalIP",
                "--profiling=false",
            ),
        )

    @property
    def controllers(self) -> tuple[Component, Component]:
        """Return the controller manager and the scheduler, which start when the API server is ready."""
        grace = self.node_grace_seconds
        return (
            Component(
                "kube-controller-manager",
                (
                    str(self.tools.kube_controller_manager),
                    f"--kubeconfig={self.layout.credentials('system:kube-controller-manager')}",
                    f"--controllers={','.join(('*', *(() if self.network else _PROCESS_NODES)))}",
                    f"--root-ca-file={self.layout.authority}",
                    f"--service-account-private-key-file={self._signing_key}",
                    "--use-service-account-credentials=true",
                    *([f"--node-monitor-grace-period={grace}s"] if grace else []),
                    *_SOLE,
                ),
            ),
            Component(
                "kube-scheduler",
                (
                    str(self.tools.kube_scheduler),
                    f"--kubeconfig={self.layout.credentials('system:kube-scheduler')}",
                    *_SOLE,
                ),
            ),
        )

    @property
    def kubelet_client(self) -> tuple[Path, Path]:
        """Certificate and key that a kubelet asks the API server for; the supervisor makes both."""
        folder = self.layout.directory / "credentials"
        return folder / "kubelet-client.crt", folder / "kubelet-client.key"

    @property
    def _to_kubelet(self) -> tuple[str, ...]:
        if self.network is None:
            return ()
        certificate, key = self.kubelet_client
        return (f"--kubelet-client-certificate={certificate}", f"--kubelet-client-key={key}")

    @property
    def _signing_key(self) -> Path:
        return self.layout.directory / "credentials" / "service-accounts.key"

    @property
    def _tokens(self) -> Path:
        return self.layout.directory / "credentials" / "tokens.csv"


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_text(text)
