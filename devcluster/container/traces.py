"""Files that CNI and containerd's shims write outside of the node's folder: a pod that is killed leaves them there."""

import hashlib
from pathlib import Path
from typing import Final

from devcluster.container import configuration
from devcluster.machine.network import NodeNetwork

CNI_RESULTS: Final = Path("/var/lib/cni/results")
SHIM_SOCKETS: Final = Path("/run/containerd/s")
_INTERFACE: Final = "-eth0"


def files(network: NodeNetwork, results: Path = CNI_RESULTS, sockets: Path = SHIM_SOCKETS) -> list[Path]:
    """Return those of a node's pods, which are found by what CNI has kept of their addresses."""
    found: list[Path] = []
    for kept in sorted(results.glob(f"{network.bridge}-*{_INTERFACE}")):
        pod = kept.name.removeprefix(f"{network.bridge}-").removesuffix(_INTERFACE)
        # A shim's socket is called by the SHA-256 of containerd's, the namespace and the pod's number.
        name = hashlib.sha256(f"{configuration.socket(network)}/k8s.io/{pod}".encode()).hexdigest()
        found += [sockets / name, results / f"cni-loopback-{pod}-lo", kept]
    return found
