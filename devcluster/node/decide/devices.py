"""Simulated GPUs of a node: their names, their holders, and what a container gets of them."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from devcluster.kube.model import Container, Pod
from ocr_wire import names

RESOURCE = names.RESOURCE_GPU
VISIBLE = names.ENV_VISIBLE_DEVICES
_NONE = {"", "none", "void"}


@dataclass(frozen=True)
class Gpu:
    uuid: str
    product: str
    memory_bytes: int


def simulated(node: str, count: int, product: str, memory_mib: int) -> list[Gpu]:
    """Return the GPUs of a node; their UUIDs follow from the node's name, so they stay the same over restarts."""
    return [
        Gpu(
            f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{index}.{node}.gpu.devcluster')}",
            product,
            memory_mib * 2**20,
        )
        for index in range(count)
    ]


@dataclass(frozen=True)
class Short:
    """Refusal of a pod that asks for more GPUs than are free."""

    requested: int
    available: int


@dataclass
class GpuAllocations:
    """Whole GPUs that containers of pods hold. A GPU has one holder at most; changed only by the node's pods."""

    gpus: Sequence[Gpu]
    held: dict[str, tuple[str, str]] = field(default_factory=dict)
    """(pod uid, container name) by GPU UUID."""

    def allocate(self, pod: Pod) -> Mapping[str, list[str]] | Short:
        """Give every container of a pod its GPUs, all or nothing; init containers use those of the main ones."""
        wanted = {container.name: requested(container) for container in pod.spec.containers}
        free = [gpu.uuid for gpu in self.gpus if gpu.uuid not in self.held]
        total = sum(wanted.values())
        init = max((requested(container) for container in pod.spec.init_containers), default=0)
        if max(total, init) > len(free):
            return Short(max(total, init), len(free))
        given: dict[str, list[str]] = {}
        for container in pod.spec.init_containers:
            given[container.name] = free[: requested(container)]
        for name, count in wanted.items():
            given[name], free = free[:count], free[count:]
            self.held.update(dict.fromkeys(given[name], (pod.metadata.uid, name)))
        return given

    def release(self, pod_uid: str) -> None:
        """Take back what a pod holds."""
        self.held = {uuid_: holder for uuid_, holder in self.held.items() if holder[0] != pod_uid}


def requested(container: Container) -> int:
    """Return the whole GPUs that a container asks for; the API server has checked that limit and request agree."""
    return int(container.resources.limits.get(RESOURCE, container.resources.requests.get(RESOURCE, 0)))


def visible(value: str) -> list[str]:
    """Return the devices that a value of `NVIDIA_VISIBLE_DEVICES` names."""
    return [] if value in _NONE else [part.strip() for part in value.split(",") if part.strip()]


def missing(value: str, gpus: Collection[Gpu]) -> list[str]:
    """Return the devices named by UUID that the node doesn't have; a container with one fails, as on a real node."""
    known = {gpu.uuid for gpu in gpus}
    return [name for name in visible(value) if name.startswith("GPU-") and name not in known]
