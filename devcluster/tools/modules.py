"""The Go modules whose programs are built here, each pinned by the go.mod of a folder of its own."""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PINS: Final = Path(__file__).parent
"""A folder for each: they can't share a go.mod where they require different versions of the same modules."""


@dataclass(frozen=True)
class Program:
    """Package that a program is built from. `core_seconds` is what it adds to a cold build of those before it."""

    package: str
    core_seconds: int


@dataclass(frozen=True)
class Module:
    """Pinned Go module and its programs, which one `go build` compiles together."""

    name: str
    programs: Mapping[str, Program]
    ldflags: str = ""

    @property
    def folder(self) -> Path:
        return _PINS / self.name

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of `go build`. No debugger looks at these programs: without its tables they compile in less time."""
        return ("-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", f"-s -w {self.ldflags}".rstrip())

    @property
    def key(self) -> str:
        """The key of the cache, which changes with everything that changes the programs."""
        digest = hashlib.sha256()
        files = sorted(path for path in self.folder.iterdir() if path.is_file())
        for part in (*(path.read_bytes() for path in files), *map(str.encode, self.flags)):
            digest.update(hashlib.sha256(part).digest())
        return f"{self.name}-{platform.machine()}-{digest.hexdigest()[:12]}"


_VERSION: Final = "k8s.io/component-base/version"
_HELM3: Final = "helm.sh/helm/v3"

KUBERNETES: Final = Module(
    "kubernetes",
    {
        "kube-apiserver": Program("k8s.io/kubernetes/cmd/kube-apiserver", 365),
        "kube-controller-manager": Program("k8s.io/kubernetes/cmd/kube-controller-manager", 95),
        "kube-scheduler": Program("k8s.io/kubernetes/cmd/kube-scheduler", 5),
        "etcd": Program("go.etcd.io/etcd/server/v3", 12),
        "kubectl": Program("k8s.io/kubernetes/cmd/kubectl", 45),
        "helm": Program("helm.sh/helm/v4/cmd/helm", 38),
        "kubelet": Program("k8s.io/kubernetes/cmd/kubelet", 40),
    },
    # Without these the programs call themselves v0.0.0-master.
    f"-X {_VERSION}.gitVersion=v1.36.3 -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=36",
)
"""With etcd, and with a Helm of the same release of the client: most of both is compiled for the others anyway."""
HELM3: Final = Module(
    "helm3",
    {"helm3": Program(f"{_HELM3}/cmd/helm", 210)},
    # Without these it renders for Kubernetes 1.20, and refuses charts that need a newer one.
    f"-X {_HELM3}/internal/version.version=v3.22.0"
    + "".join(
        f" -X {_HELM3}/pkg/{package}.k8sVersionMajor=1 -X {_HELM3}/pkg/{package}.k8sVersionMinor=37"
        for package in ("chartutil", "lint/rules")
    ),
)
"""For tests of charts alone: many clusters and GitOps tools still have Helm 3."""
CONTAINERD: Final = Module(
    "containerd",
    {
        "containerd": Program("github.com/containerd/containerd/v2/cmd/containerd", 70),
        "containerd-shim-runc-v2": Program(
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", 14
        ),
        "ctr": Program("github.com/containerd/containerd/v2/cmd/ctr", 10),
    },
    "-X github.com/containerd/containerd/v2/version.Version=v2.2.9",
)
PAUSE: Final = Module("pause", {"pause": Program("devcluster/tools/pause", 10)})
MODULES: Final = (KUBERNETES, HELM3, CONTAINERD, PAUSE)


def module_of(program: str) -> Module:
    """Return the module that a program belongs to."""
    return next(module for module in MODULES if program in module.programs)
