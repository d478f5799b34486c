"""Real clusters for tests: one a session and worker, or a skip that says why there is none."""

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.cluster import Cluster
from devcluster.errors import ControlPlaneUnavailable
from devcluster.progress import Progress
from devcluster.tools import Toolbox

NO_CONTROL_PLANE = "no control plane: "
"""Reasons of skipped cluster tests begin with it; the last line of pytest's summary counts them."""

_CRDS = Path(__file__).parents[2] / "crds"


@functools.cache
def unavailable() -> str | None:
    """Why there can be no control plane; None when its programs are there, built now if need be."""
    try:
        Toolbox(os.environ, Progress(sys.__stderr__ or sys.stderr)).control_plane()
    except ControlPlaneUnavailable as error:
        return str(error)
    return None


@contextlib.contextmanager
def started(directory: Path, *, nodes: int = 0, gpus: int = 2, operator: bool = False) -> Iterator[Cluster]:
    """A cluster for a fixture. Without a control plane the test is skipped, or fails where `CI=true` demands one."""
    reason = unavailable()
    if reason is not None:
        message = f"{NO_CONTROL_PLANE}{reason}"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    with Cluster.start(directory, nodes=nodes, gpus=gpus, operator=operator) as cluster:
        yield cluster


def apply_crds(cluster: Cluster) -> None:
    """Install the resource definitions and wait until the API server serves them; a second time changes nothing."""
    cluster.kubectl("apply", "--server-side", "-f", str(_CRDS))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(_CRDS))
