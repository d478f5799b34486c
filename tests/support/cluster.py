"""Real clusters for tests: one a worker, or a skip that says why there is none."""

import contextlib
import functools
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from devcluster.cluster import Cluster
from devcluster.errors import ControlPlaneUnavailable
from devcluster.progress import Progress
from tests.support.paths import CRDS
from devcluster.tools.toolbox import Toolbox

NO_CONTROL_PLANE = "no control plane: "
"""Reasons of skipped cluster tests begin with it; the last line of pytest's summary counts them."""

_CRDS = CRDS


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
    directory: Path, *, nodes: int = 0, gpus: int = 2, operator: bool = False, defined: bool = False
) -> Iterator[Cluster]:
    """A cluster for a fixture; `defined`, it has our resource definitions from the beginning.

    Without a control plane the test is skipped, or fails where `CI=true` demands one.
    """
    reason = unavailable()
    if reason is not None:
        message = f"{NO_CONTROL_PLANE}{reason}"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    with Cluster.start(
        directory, nodes=nodes, gpus=gpus, operator=operator, definitions=_CRDS if defined else None
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


def ask(cluster: Cluster, path: str, body: object = None) -> Any:
    """The API server's answer to a POST of the body, or to a GET, as administrator; raises HTTPError.

    A kubectl takes 0.1 s of CPU time, which tests that wait would spend again and again.
    """
    request = urllib.request.Request(
        f"{cluster.url}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {cluster.token}", "Content-Type": "application/json"},
    )
    trust = ssl.create_default_context(cafile=str(cluster.authority))
    with urllib.request.urlopen(request, context=trust) as answer:
        return json.load(answer)


def find(cluster: Cluster, path: str) -> dict[str, Any] | None:
    """An object or a list of objects; None when there is none."""
    try:
        found: dict[str, Any] = ask(cluster, path)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 404:
                return None
            raise
    return found


def apply_crds(cluster: Cluster) -> None:
    """Install the resource definitions and wait until the API server serves them."""
    cluster.kubectl("apply", "--server-side", "-f", str(_CRDS))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(_CRDS))
