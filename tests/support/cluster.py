"""Where cluster tests take place: a devcluster, or the cluster of `KUBECONFIG`; or a skip that says why."""

import contextlib
import functools
import os
import socket
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from devcluster.cluster import Cluster
from devcluster.errors import ControlPlaneUnavailable
from devcluster.kube import model
from devcluster.progress import Progress
from devcluster.services import routing
from devcluster.tools.kubectl import Kubectl
from devcluster.tools.toolbox import Toolbox
from tests.support import apiserver
from tests.support.foreign import Foreign
from tests.support.paths import CRDS

NO_CONTROL_PLANE = "no control plane: "
"""Reasons of skipped cluster tests begin with it; the last line of pytest's summary counts them."""


CONTROL_PLANE: Mapping[str, Any] = {"defined": True, "node_grace_seconds": 3600}
"""How that of `Places.control_plane` is started: Nodes that a test makes there stay ready without a kubelet."""


@dataclass(frozen=True)
class Place:
    """A cluster as the tests see it, whoever runs it."""

    kubeconfig: Path
    service: Callable[[str, str], str | None]
    """The `address:port` of a Service by its name and namespace; None until there is one. Process nodes only."""
    images: tuple[str, str] | None = None
    """Of the operator and the inference server. None: pods are processes of this machine."""
    operator: str | None = None
    """`namespace/name` of one that watches all namespaces."""

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl and return its output; a failure raises DevclusterError with what it printed."""
        return Kubectl(self.kubeconfig).run(*arguments, stdin=stdin)

    def ask(self, path: str, body: object = None) -> Any:
        """The API server's answer to a POST of the body, or to a GET; raises `apiserver.Refused`."""
        return apiserver.request(self.kubeconfig, "GET" if body is None else "POST", path, body)

    def endpoints(self, name: str, namespace: str) -> list[str]:
        """`address:port` of each pod that a Service leads to, as the DNS name of a headless one has them. Process nodes
        only: no API server takes endpoints with their addresses, so devcluster's own stand for them.
        """
        core = f"/api/v1/namespaces/{namespace}"
        service = msgspec.convert(self.ask(f"{core}/services/{name}"), routing.Service)
        pods = map(model.pod, self.ask(f"{core}/pods")["items"])
        return [
            f"{address}:{port}" for address, port in routing.endpoints(service, service.spec.ports[0], pods)
        ]

    @contextlib.contextmanager
    def namespace(self, prefix: str, **labels: str) -> Iterator[str]:
        """A namespace of a new name, which goes with the block."""
        name = f"{prefix}-{uuid.uuid4().hex[:8]}"
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        self.ask("/api/v1/namespaces", body)
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")


def of(cluster: Cluster) -> Place:
    """A devcluster as a place."""
    return Place(cluster.kubeconfig, cluster.service)


@functools.cache
def unavailable() -> str | None:
    """Why there can be no control plane; None when its programs are there, built now if need be."""
    try:
        Toolbox(os.environ, Progress(sys.__stderr__ or sys.stderr)).control_plane()
    except ControlPlaneUnavailable as error:
        return str(error)
    return None


@contextlib.contextmanager
def started(
    directory: Path,
    *,
    nodes: int = 0,
    gpus: int = 2,
    operator: bool = False,
    ipv6: bool = False,
    defined: bool = False,
    node_grace_seconds: int = 0,
) -> Iterator[Cluster]:
    """A cluster for a fixture; `defined`, it has our resource definitions from the beginning.

    Nodes are lost after `node_grace_seconds` of silence; 0: Kubernetes' default.

    Without a control plane the test is skipped, or fails where `CI=true` demands one.
    """
    reason = unavailable()
    if reason is not None:
        message = f"{NO_CONTROL_PLANE}{reason}"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    with Cluster.start(
        directory,
        nodes=nodes,
        gpus=gpus,
        operator=operator,
        ipv6=ipv6,
        definitions=CRDS if defined else None,
        node_grace_seconds=node_grace_seconds,
    ) as cluster:
        yield cluster


class Clusters:
    """Clusters that several files use, one by each name; the `with` block ends those that run."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._running: dict[str, Cluster] = {}
        self._stack = contextlib.ExitStack()

    def get(self, name: str, **arguments: Any) -> Cluster:
        """The one that runs, or a new one, made as `started` makes it."""
        if name not in self._running:
            directory = self._folders.mktemp(name) / "cluster"
            self._running[name] = self._stack.enter_context(started(directory, **arguments))
        return self._running[name]

    def end(self) -> None:
        """All of them; who wants one later gets a new one."""
        self._running.clear()
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class Places:
    """The place of a test, by what it needs there."""

    def __init__(self, clusters: Clusters, foreign: Foreign | None) -> None:
        self._clusters, self._foreign = clusters, foreign

    def control_plane(self) -> Place:
        """Our definitions on any API server with its controllers."""
        if self._foreign is None:
            return of(self._clusters.get("control-plane", **CONTROL_PLANE))
        return self._at(self._foreign.lacks_definitions())

    def simulated_gpus(self) -> Place:
        """Two process nodes, each with two simulated GPUs and an exporter, and our definitions."""
        if self._foreign is None:
            return of(self._clusters.get("cluster", nodes=2, gpus=2, defined=True))
        return self._at(self._foreign.lacks_simulated_gpus(2, 2) or self._foreign.lacks_definitions())

    def ipv6(self) -> Place:
        """Two process nodes with simulated GPUs, the second one for pods of the address `::1`."""
        if not socket.has_dualstack_ipv6():
            pytest.skip("this machine has no IPv6")
        if self._foreign is not None:
            pytest.skip(
                f"not in the cluster {self._foreign.context}: a process node of IPv6 can't be added to it"
            )
        return of(self._clusters.get("ipv6", nodes=2, gpus=1, ipv6=True, defined=True))

    def pods(self) -> Place:
        """Nodes that run our pods, with whatever GPUs, and our definitions."""
        if self._foreign is None:
            return self.simulated_gpus()
        return self._at(self._foreign.lacks_pods() or self._foreign.lacks_definitions())

    def empty(self) -> Place:
        """An API server that serves no definition of ours, and has nothing of the chart."""
        if self._foreign is None:
            return of(self._clusters.get("empty"))
        return self._at(self._foreign.lacks_emptiness())

    def _at(self, lack: str | None) -> Place:
        assert self._foreign is not None
        if lack is not None:
            pytest.skip(f"not in the cluster {self._foreign.context}: {lack}")
        images = None if self._foreign.process_nodes else self._foreign.images
        return Place(self._foreign.kubeconfig, self._foreign.service, images, self._foreign.operator())
