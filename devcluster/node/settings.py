"""Settings of one process node, given at its start."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    kubeconfig: Path
    name: str
    ip_prefix: str
    """First three numbers of the node's addresses; pods get .1 to .253, unless `pod_ip` says otherwise."""
    pod_ip: str = ""
    """Address that all pods of the node have together, such as `::1`: Linux answers on one of IPv6 only."""
    root: Path
    """Absolute. Holds `pods/<uid>/{volumes,homes,logs}`, `gpus/` (usage of the simulated GPUs) and `tls/`."""
    gpus: int = 0
    gpu_product: str = "NVIDIA-L40S"
    gpu_memory_mib: int = 46068
    cpus: int = 16
    memory: str = "64Gi"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    stop_seconds: float = 5.0
    """The longest grace a pod gets when the node itself stops."""

    @property
    def node_ip(self) -> str:
        """The Node's InternalIP, where its log endpoint listens."""
        return f"{self.ip_prefix}.254"

    @property
    def gpu_folder(self) -> Path:
        """The folder that pods get as `OCR_SIMULATED_GPU_DIR`."""
        return self.root / "gpus"
