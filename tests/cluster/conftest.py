"""Fixtures of tests that play the kubelets themselves."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import cluster as support
from tests.support import nodeless
from tests.support.operators import Local


@pytest.fixture
def scene(control_plane: support.Place, tmp_path: Path) -> Iterator[nodeless.Scene]:
    if control_plane.operator is not None:
        pytest.skip(f"the operator {control_plane.operator} watches all namespaces of this cluster")
    with control_plane.namespace("reported") as namespace:
        operator = Local(control_plane, namespace, tmp_path / "operator.log")
        try:
            operator.start()
            yield nodeless.Scene(control_plane, namespace)
            assert operator.end(signal.SIGTERM) == 0, "it has run all the time"
            assert "Traceback" not in operator.log.read_text()
        finally:
            operator.close()


@pytest.fixture
def nodes(scene: nodeless.Scene) -> Iterator[list[str]]:
    """Two of them with a GPU each."""
    if json.loads(scene.kubectl("get", "nodes", "-o", "json"))["items"]:
        pytest.skip("this cluster has nodes of its own")
    made = [f"{scene.namespace}-{n}" for n in "ab"]
    amounts = {"cpu": "8", "memory": "16Gi", "pods": "110", "nvidia.com/gpu": "1"}
    for name in made:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        scene.kubectl("create", "-f", "-", stdin=json.dumps(node))
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "lastHeartbeatTime": nodeless.now(),
        }
        status = {"conditions": [ready], "capacity": amounts, "allocatable": amounts}
        scene.set_status("node", name, status)
    yield made
    scene.kubectl("delete", "node", *made)
