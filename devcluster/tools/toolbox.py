"""The programs of the control plane, and Helm and kubectl: found, fetched or built once.

Looked for in this order: `$KUBEBUILDER_ASSETS`, PATH, the cache. The four programs of the control plane are taken from
one place or not at all, since mixed versions fail in ways that look like faults of ours; Helm and kubectl stand alone.
What isn't found comes into the cache: fetched as it is published (`official`, `download`), or else built with Go from
pinned modules (`modules`, `gobuild`).
"""

import contextlib
import fcntl
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devcluster.errors import ControlPlaneUnavailable
from devcluster.progress import Progress, duration
from devcluster.tools import gobuild
from devcluster.tools.download import Downloads
from devcluster.tools.modules import MODULES, Module, module_of
from devcluster.tools.official import OFFICIAL, Official

CONTROL_PLANE: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
HELM: Final = ("helm",)
KUBECTL: Final = ("kubectl",)
REAL_NODE: Final = ("kubelet", "containerd", "containerd-shim-runc-v2", "ctr", "pause")


@dataclass(frozen=True)
class ControlPlaneTools:
    """Paths of the four programs."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kube_scheduler: Path


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of programs that were fetched or built, shared by all checkouts of a user."""
    base = environment.get("XDG_CACHE_HOME", "")
    root = Path(base) if base.startswith("/") else Path(environment.get("HOME") or Path.home()) / ".cache"
    return root / "ocr-operator" / "devcluster"


class Toolbox:
    """Toolbox that finds programs, and gets those that are missing. Parallel toolboxes get each module's once.

    `pins` are the official programs that it may fetch, those of this kind of machine by default.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        progress: Progress,
        *,
        pins: Mapping[str, Official] | None = None,
    ) -> None:
        self._environment = environment
        self._progress = progress
        self._cache = cache_folder(environment)
        self._downloads = Downloads(
            OFFICIAL.get(platform.machine(), {}) if pins is None else pins, environment, progress
        )

    def control_plane(self) -> ControlPlaneTools:
        """Return the four programs; raises ControlPlaneUnavailable with the reason."""
        paths = self.provide(CONTROL_PLANE)
        return ControlPlaneTools(**{name.replace("-", "_"): path for name, path in paths.items()})

    def helm(self) -> Path:
        return self.provide(HELM)["helm"]

    def helm3(self) -> Path:
        return self.provide(("helm3",))["helm3"]

    def kubectl(self) -> Path:
        return self.provide(KUBECTL)["kubectl"]

    def real_node(self) -> dict[str, Path]:
        """Return the programs of a real node. Never those of PATH: what a machine runs has versions of its own."""
        return self.provide(REAL_NODE, anywhere=False)

    def find(self, names: Sequence[str], *, anywhere: bool = True) -> dict[str, Path] | None:
        """Return programs that belong together, all from one place, without getting any; None when some are missing.

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

    def provide(self, *groups: Sequence[str], anywhere: bool = True) -> dict[str, Path]:
        """Return the programs of all groups, each group from one place, after getting those that are nowhere.

        What is missing of several groups is compiled together, which takes less time than one after the other.
        """
        if missing := self.absent(*groups, anywhere=anywhere):
            with self._progress.step("Getting " + ", ".join(missing)):
                for module in MODULES:
                    if wanted := [name for name in module.programs if name in missing]:
                        self._get(module, wanted)
        found: dict[str, Path] = {}
        for group in groups:
            found |= self.find(group, anywhere=anywhere) or {name: self._cached(name) for name in group}
        return found

    def absent(self, *groups: Sequence[str], anywhere: bool = True) -> list[str]:
        """Return the programs that `provide` would have to get."""
        groups_absent = (group for group in groups if self.find(group, anywhere=anywhere) is None)
        return [name for group in groups_absent for name in group if not self._cached(name).is_file()]

    def _cached(self, name: str) -> Path:
        return self._cache / module_of(name).key / name

    def _get(self, module: Module, wanted: Sequence[str]) -> None:
        """Fetch or build programs of a module into the cache."""
        with self._locked(module):
            # Another process may have got them while this one waited for the lock.
            if names := [name for name in wanted if not self._cached(name).is_file()]:
                with self._draft(module) as draft:
                    fetched = self._downloads.fetch(names, draft)
                    if rest := [name for name in names if name not in fetched]:
                        self._build(module, rest, draft)
                    (self._cache / module.key).mkdir(parents=True, exist_ok=True)
                    for name in names:
                        os.replace(draft / name, self._cached(name))

    @contextlib.contextmanager
    def _locked(self, module: Module) -> Iterator[None]:
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(
                self._cache / f"{module.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise ControlPlaneUnavailable(
                f"the folder for programs can't be written ({error}): set XDG_CACHE_HOME to one that can"
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._progress.say(f"another process gets the programs of {module.name}: waiting for it")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _draft(self, module: Module) -> Iterator[Path]:
        # This process holds the module's lock: a draft that is there is a killed one's.
        draft = self._cache / f".{module.key}.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _build(self, module: Module, names: Sequence[str], target: Path) -> None:
        cores = os.cpu_count() or 1
        estimate = sum(module.programs[name].core_seconds for name in names) / cores
        self._progress.say(
            f"  building {', '.join(names)} with Go from pinned sources: about {duration(estimate)} on {cores} cores, "
            "less if parts were compiled before"
        )
        go = gobuild.find_go(self._environment, self._cache, self._progress)
        packages = {name: module.programs[name].package for name in names}
        total = go.download(module.folder, list(packages.values()), f"{module.name}: fetching modules")
        go.build(
            module.folder,
            list(packages.values()),
            module.flags,
            target,
            title=f"{module.name}: compiling",
            total=total,
            estimate_seconds=estimate,
        )
        for name, package in packages.items():
            os.replace(target / gobuild.program_name(package), target / name)
