"""Messages between the supervisor of a cluster and the process that ordered it: one order in, reports out."""

import string
from typing import Any, Final, Literal

import msgspec

NODE_NAMES: Final = tuple(f"gpu-{letter}" for letter in string.ascii_lowercase)
"""Each has credentials in every cluster, whether it is started or not."""


class ContainerTools(msgspec.Struct, frozen=True):
    """Programs of a real node, and archives of images that it has from the start."""

    kubelet: str
    containerd: str
    shim: str
    ctr: str
    pause: str
    images: tuple[str, ...] = ()


class Order(msgspec.Struct, frozen=True):
    """Order to start a cluster, and where. `id` marks every process of the cluster."""

    id: str
    directory: str
    etcd: str
    kube_apiserver: str
    kube_controller_manager: str
    kube_scheduler: str
    helm: str | None
    """None: no operator."""
    nodes: int
    gpus: int
    detached: bool
    containers: ContainerTools | None = None
    """None: nodes are processes, and so are their pods."""
    ipv6: bool = False
    """The pods of the last node have the address `::1`."""
    definitions: tuple[dict[str, Any], ...] = ()
    """CustomResourceDefinitions that are there before the controllers start."""
    node_grace_seconds: int = 0
    """How long a node may be silent before it counts as lost; 0 is Kubernetes' default."""


class Report(msgspec.Struct, frozen=True):
    """Report to the process that ordered the cluster, one line each."""

    kind: Literal["step", "ready", "failed"]
    text: str
