"""What it costs that pods fit nowhere: placement as passes do it, with 500 pods among 4,000 GPUs that are full."""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from ocr_operator.controllers.accounting import Accounting
from ocr_operator.controllers.tenants import Tenants
from ocr_operator.decide import placement
from ocr_operator.decide.placement import NoFit
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.resources import observed
from ocr_operator.resources.observed import Node, Pod
from ocr_wire import names
from ocr_wire.state import PodState
from tests.support.observations import raw_pod
from tests.support.resources import RAPIDOCR, make_deployment

GIB: Final = 2**30
SIZE: Final = 45 * GIB
NODES: Final = 500
"""Of 8 GPUs each."""
PODS: Final = 500
NODES_AT_ONCE: Final = 32
T0: Final = datetime(2026, 1, 1, tzinfo=UTC)


class _Readings:
    """What exporters say, told once."""

    def __init__(self, reported: Mapping[str, Sequence[GpuReading]]) -> None:
        self._new = dict(reported)

    def hear(self, uid: str, pod: Pod | None, state: PodState | None) -> None:
        """These pods say nothing."""

    def settle(self, now: datetime) -> Mapping[str, Sequence[GpuReading]]:  # noqa: ARG002  nothing ages here
        found, self._new = self._new, {}
        return found


def cost(resources: int, *, apart: bool) -> float:
    """CPU seconds of placement in one pass over each of so many resources, once their kind of request is known.
    `apart`: no two pods of a resource on a node, and spread over zones.
    """
    size = {"cpu": 128_000, "memory": 1024 * GIB, "pods": 110, "nvidia.com/gpu": 8}
    labels = {"kubernetes.io/hostname": "", "topology.kubernetes.io/zone": ""}
    listed = [f"node-{n:03}" for n in range(NODES)]
    tenants = Tenants(cast("Any", None), time=time.monotonic, on_loss=lambda _: None, namespaces=("",))
    books = Accounting(placement.POLICIES["leastLoaded"], tenants, needs={}, namespace_labels=lambda _: {})
    for n, name in enumerate(listed):
        node = Node(
            name=name,
            ready=True,
            allocatable=size,
            labels=dict(zip(labels, (name, f"zone-{n % 3}"), strict=True)),
        )
        books.node_changed(None, node)
        for k in range(8):
            pod = observed.pod(_placed(f"full-{n:03}-{k}", name, f"GPU-{name}-{k}"))
            tenants.pod_changed(None, pod)
            books.pod_changed(None, pod, T0)
    gpus = _Readings({name: [_full(name, f"GPU-{name}-{k}") for k in range(8)] for name in listed})
    asked = {
        name: make_deployment(name, models=[{**RAPIDOCR, "gpuMemory": "7Gi"}], gpu={"sharing": "shared"})
        for name in (f"wants-{n:03}" for n in range(resources))
    }
    requests = []
    for n in range(PODS):
        resource = asked[f"wants-{n % resources:03}"]
        pod = observed.pod(
            raw_pod(
                f"new-{n:03}",
                gated=True,
                deployment=resource.name,
                **(_apart(resource.name) if apart else {}),
            )
        )
        books.pod_changed(None, pod, T0)
        requests.append((resource, pod))
    request = placement.request(*requests[0])
    assert isinstance(books.choose(request, gpus, lambda _: None, T0), NoFit)

    def passes() -> None:
        for resource, pod in requests:
            request = placement.request(resource, pod)
            while not books.prepare(request, gpus, lambda _: None, T0, NODES_AT_ONCE):
                pass
            choice = books.choose(request, gpus, lambda _: None, T0)
            assert isinstance(choice, NoFit)
            placement.give_up(request, pod, choice, T0, after_seconds=0)
            assert books.withdraw(request, gpus, lambda _: None, T0, lambda _: True) is None

    began = time.process_time()
    passes()
    return time.process_time() - began


def _placed(name: str, node: str, uuid: str) -> dict[str, Any]:
    """A pod with a promise of nearly all of a GPU."""
    record = {
        "node": node,
        "gpus": [{"uuid": uuid}],
        "memoryBytes": 40 * GIB,
        "placedAt": "2025-12-31T00:00:00Z",
    }
    annotations = {names.ANNOTATION_PLACEMENT: json.dumps(record), names.ANNOTATION_GPU_UUIDS: uuid}
    return raw_pod(name, node=node, deployment=f"full-{node[-2:]}", annotations=annotations)


def _full(node: str, uuid: str) -> GpuReading:
    return GpuReading(
        node=node, uuid=uuid, memory_used_bytes=SIZE, memory_total_bytes=SIZE, utilization=1.0, read_at=T0
    )


def _apart(resource: str) -> dict[str, Any]:
    """What a pod says that wants to be alone on its node and spread over zones."""
    own = {"labelSelector": {"matchLabels": {names.LABEL_DEPLOYMENT: resource}}}
    required = {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname", **own}]
    }
    spread = {
        "topologyKey": "topology.kubernetes.io/zone",
        "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule",
        **own,
    }
    return {"affinity": {"podAntiAffinity": required}, "topologySpreadConstraints": [spread]}
