"""Devices as a driver of Dynamic Resource Allocation publishes them: the simulated GPUs of process nodes."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any, Final

from devcluster.node.decide import devices
from tests.support.cluster import Place

DRIVER: Final = "gpu.nvidia.com"


@contextlib.contextmanager
def published(place: Place) -> Iterator[dict[str, str]]:
    """A class, and a slice for each of two nodes, while the block lasts; UUID → device."""
    found: dict[str, str] = {}
    made = [_device_class()]
    for node in place.kubectl("get", "nodes", "-o", "name").split()[:2]:
        name = node.removeprefix("node/")
        here = devices.simulated(name, 2, "NVIDIA-L40S", 46068)
        found |= {gpu.uuid: f"gpu-{index}" for index, gpu in enumerate(here)}
        made.append(_slice(name, [gpu.uuid for gpu in here]))
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    place.kubectl("apply", "-f", "-", stdin=text)
    try:
        yield found
    finally:
        place.kubectl("delete", "--wait=false", "-f", "-", stdin=text)


def _device_class() -> dict[str, Any]:
    expression = f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].type == 'gpu'"
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": DRIVER},
        "spec": {"selectors": [{"cel": {"expression": expression}}]},
    }


def _slice(node: str, uuids: list[str]) -> dict[str, Any]:
    def device(index: int, uuid_: str) -> dict[str, Any]:
        attributes = {"type": {"string": "gpu"}, "uuid": {"string": uuid_}}
        return {
            "name": f"gpu-{index}",
            "attributes": attributes,
            "capacity": {"memory": {"value": "46068Mi"}},
        }

    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"{node}-gpus"},
        "spec": {
            "driver": DRIVER,
            "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": [device(index, each) for index, each in enumerate(uuids)],
        },
    }
