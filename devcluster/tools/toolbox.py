"""The programs of the control plane, and Helm and kubectl: found, or built once with Go from pinned modules.

Looked for in this order: `$KUBEBUILDER_ASSETS`, PATH, the cache. The four programs of the control plane are taken from
one place or not at all, since mixed versions fail in ways that look like faults of ours; Helm and kubectl stand alone.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devcluster.errors import ControlPlaneUnavailable
from devcluster.progress import Progress
from devcluster.tools import gobuild

REAL_NODE: Final = ("kubelet", "containerd", "containerd-shim-runc-v2", "ctr", "pause")
CONTROL_PLANE: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")

_PINS: Final = Path(__file__).parent
"""A folder for each Go module: they can't share a go.mod, as they require different versions of the same modules."""


@dataclass(frozen=True)
class Module:
    """Pinned Go module and the programs built from it. `core_seconds` is what a cold build took, times the cores."""

    name: str
    packages: Mapping[str, str]
    flags: tuple[str, ...]
    core_seconds: int

    @property
    def folder(self) -> Path:
        return _PINS / self.name

    @property
    def key(self) -> str:
        """The key of the cache, which changes with everything that changes the programs."""
        digest = hashlib.sha256()
        files = sorted(path for path in self.folder.iterdir() if path.is_file())
        for part in (*(path.read_bytes() for path in files), *map(str.encode, self.flags)):
            digest.update(hashlib.sha256(part).digest())
        return f"{self.name}-{platform.machine()}-{digest.hexdigest()[:12]}"


_VERSION: Final = "k8s.io/component-base/version"
_STRIP: Final = "-s -w"

KUBERNETES: Final = Module(
    "kubernetes",
    {
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet")
    },
    (
        "-trimpath",
        "-ldflags",
        # Without these the programs call themselves v0.0.0-master.
        f"{_STRIP} -X {_VERSION}.gitVersion=v1.36.3 -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=36",
    ),
    834,
)
ETCD: Final = Module("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}, ("-trimpath", "-ldflags", _STRIP), 50)
HELM: Final = Module("helm", {"helm": "helm.sh/helm/v4/cmd/helm"}, ("-trimpath", "-ldflags", _STRIP), 210)
_HELM3: Final = "helm.sh/helm/v3"
HELM3: Final = Module(
    "helm3",
    {"helm3": f"{_HELM3}/cmd/helm"},
    (
        "-trimpath",
        "-ldflags",
        # Without these it renders for Kubernetes 1.20, and refuses charts that need a newer one.
        f"{_STRIP} -X {_HELM3}/internal/version.version=v3.22.0"
        + "".join(
            f" -X {_HELM3}/pkg/{package}.k8sVersionMajor=1 -X {_HELM3}/pkg/{package}.k8sVersionMinor=37"
            for package in ("chartutil", "lint/rules")
        ),
    ),
    210,
)
"""For tests of charts alone: many clusters and GitOps tools still have Helm 3."""
CONTAINERD: Final = Module(
    "containerd",
    {
        name: f"github.com/containerd/containerd/v2/cmd/{name}"
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    ("-trimpath", "-ldflags", f"{_STRIP} -X github.com/containerd/containerd/v2/version.Version=v2.2.9"),
    94,
)
PAUSE: Final = Module("pause", {"pause": "devcluster/tools/pause"}, ("-trimpath", "-ldflags", _STRIP), 10)
MODULES: Final = (KUBERNETES, ETCD, HELM, HELM3, CONTAINERD, PAUSE)


@dataclass(frozen=True)
class ControlPlaneTools:
    """Paths of the four programs."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kube_scheduler: Path


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of built programs, shared by all checkouts of a user."""
    base = environment.get("XDG_CACHE_HOME", "")
    root = Path(base) if base.startswith("/") else Path(environment.get("HOME") or Path.home()) / ".cache"
    return root / "ocr-operator" / "devcluster"


class Toolbox:
    """Toolbox that finds programs, and builds those that are missing. Parallel toolboxes build each module once."""

    def __init__(self, environment: Mapping[str, str], progress: Progress) -> None:
        self._environment = environment
        self._progress = progress
        self._cache = cache_folder(environment)

    def control_plane(self) -> ControlPlaneTools:
        """Return the four programs; raises ControlPlaneUnavailable with the reason."""
        paths = self.provide(CONTROL_PLANE)
        return ControlPlaneTools(**{name.replace("-", "_"): path for name, path in paths.items()})

    def helm(self) -> Path:
        return self.provide(("helm",))["helm"]

    def helm3(self) -> Path:
        return self.provide(("helm3",))["helm3"]

    def kubectl(self) -> Path:
        return self.provide(("kubectl",))["kubectl"]

    def real_node(self) -> dict[str, Path]:
        """Return the programs of a real node. Never those of PATH: what a machine runs has versions of its own."""
        return self.provide(REAL_NODE, anywhere=False)

    def find(self, names: Sequence[str], *, anywhere: bool = True) -> dict[str, Path] | None:
        """Return programs that belong together, all from one place, without building; None when some are missing.

        Not `anywhere` is the cache alone.
        """
        assets = self._environment.get("KUBEBUILDER_ASSETS")
        places = [assets] if assets else []
        places.append(self._environment.get("PATH", os.defpath))
        for place in places if anywhere else ():
            found = {name: shutil.which(name, path=place) for name in names}
            if all(found.values()):
                return {name: Path(path).absolute() for name, path in found.items() if path}
        cached = {name: self._cached(name) for name in names}
        return cached if all(path.is_file() for path in cached.values()) else None

    def provide(self, names: Sequence[str], *, anywhere: bool = True) -> dict[str, Path]:
        """Return the programs, after building those that the cache lacks."""
        found = self.find(names, anywhere=anywhere)
        if found is not None:
            return found
        missing = [module for module in MODULES if self._missing(module, names)]
        with self._progress.step("Building " + ", ".join(names)):
            go = gobuild.find_go(self._environment, self._cache, self._progress)
            for module in missing:
                with self._locked(module):
                    # Another process may have built them while this one waited for the lock.
                    if programs := self._missing(module, names):
                        self._build(go, module, programs)
        return {name: self._cached(name) for name in names}

    def _missing(self, module: Module, names: Sequence[str]) -> list[str]:
        return [name for name in names if name in module.packages and not self._cached(name).is_file()]

    def _cached(self, name: str) -> Path:
        module = next(module for module in MODULES if name in module.packages)
        return self._cache / module.key / name

    @contextlib.contextmanager
    def _locked(self, module: Module) -> Iterator[None]:
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(
                self._cache / f"{module.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise ControlPlaneUnavailable(
                f"the folder for built programs can't be written ({error}): set XDG_CACHE_HOME to one that can"
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._progress.say(f"another process builds {module.name}: waiting for it")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _build(self, go: gobuild.Go, module: Module, names: Sequence[str]) -> None:
        target = self._cache / module.key
        draft = (
            self._cache / f".{module.key}.draft"
        )  # this process holds the module's lock: a draft is a killed one's
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            packages = [module.packages[name] for name in names]
            go.download(module.folder, packages, f"{module.name}: fetching modules")
            share = len(names) / len(module.packages)
            go.build(
                module.folder,
                packages,
                module.flags,
                draft,
                title=f"{module.name}: compiling",
                estimate_seconds=share * module.core_seconds / (os.cpu_count() or 1),
            )
            target.mkdir(parents=True, exist_ok=True)
            for name in names:
                os.replace(draft / gobuild.program_name(module.packages[name]), target / name)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
