"""Files of one cluster, all under one folder, and the record of what runs (`state.json`)."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from devcluster.errors import DevclusterError
from devcluster.machine.network import NodeNetwork

CHECKOUT: Final = Path(__file__).parents[2]
"""The folder that holds `devcluster`, the chart and the definitions: where `python -m devcluster…` is run."""

CLUSTER_MARK: Final = "DEVCLUSTER_ID"
"""Environment variable that every process of a cluster inherits: what a killed cluster left is found by its value."""

NODE_MARK: Final = "DEVCLUSTER_NODE"
"""Variable by which a node's processes are known, whatever session they move to; holds the node's root folder."""


@dataclass(frozen=True)
class Layout:
    """Paths under `directory`, which belongs to one cluster and is removed as a whole with it."""

    directory: Path

    @property
    def state(self) -> Path:
        return self.directory / "state.json"

    @property
    def lock(self) -> Path:
        """File that the supervisor locks (flock) as long as it lives."""
        return self.directory / "lock"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "kubeconfig"

    @property
    def certificates(self) -> Path:
        """The API server's self-made certificate; its file ends with the authority that signed it."""
        return self.directory / "certs"

    @property
    def authority(self) -> Path:
        return self.certificates / "apiserver.crt"

    @property
    def etcd(self) -> Path:
        """Working folder of etcd and the API server: the socket between them lies in it."""
        return self.directory / "etcd"

    @property
    def services(self) -> Path:
        """Addresses of Services, written by the service proxy: `namespace/name` → addresses with ports."""
        return self.directory / "services.json"

    def credentials(self, name: str) -> Path:
        """Return the kubeconfig of a component or a node."""
        return self.directory / "credentials" / f"{name}.kubeconfig"

    def log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"

    def node(self, name: str) -> Path:
        return self.directory / "nodes" / name

    def is_cluster(self) -> bool:
        """Return whether the folder was made by devcluster, so that removing it removes nothing else."""
        return self.lock.is_file()

    def create(self) -> None:
        """Make the folder, readable by its owner alone; refuse one that holds something else."""
        if self.directory.is_dir() and any(self.directory.iterdir()) and not self.is_cluster():
            raise DevclusterError(
                f"{self.directory} isn't empty and isn't a devcluster folder: pass another --dir"
            )
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory.chmod(0o700)
        self.lock.touch(mode=0o600)

    def clear(self, *, keep_logs: bool = False) -> None:
        """Remove what a cluster left in the folder, but not the lock, which the caller holds."""
        for path in self.directory.iterdir():
            if path == self.lock or (keep_logs and path.name == "logs"):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder, if it is a cluster's."""
        if self.is_cluster():
            shutil.rmtree(self.directory, ignore_errors=True)


class Identity(msgspec.Struct, frozen=True):
    """Process, named so that a later one with its number differs: `started` is in clock ticks since boot."""

    pid: int
    started: int


class ProcessRecord(msgspec.Struct, frozen=True):
    """Process that the supervisor started. `exit_code` is null while it runs, negative after a signal."""

    name: str
    identity: Identity
    exit_code: int | None = None


class State(msgspec.Struct, frozen=True):
    """Record that `status` prints and the next `up` cleans up."""

    id: str
    supervisor: Identity
    phase: Literal["starting", "ready", "stopping"]
    url: str
    network: str
    nodes: tuple[str, ...] = ()
    gpus: int = 0
    operator: bool = False
    ipv6: bool = False
    containers: bool = False
    """The node is a real one, which took more of this machine than processes and this folder."""
    processes: tuple[ProcessRecord, ...] = ()

    @property
    def node_network(self) -> NodeNetwork | None:
        """The real node's part of the machine."""
        return NodeNetwork(int(self.network.split(".")[1])) if self.containers else None

    def marks(self, layout: Layout) -> list[str]:
        """The `NAME=value` in the environment of every process of this cluster, pods' processes included."""
        nodes = [f"{NODE_MARK}={layout.node(name)}" for name in self.nodes]
        return [f"{CLUSTER_MARK}={self.id}", *nodes]

    @classmethod
    def load(cls, layout: Layout) -> "State | None":
        """Return the record; None when there is none or it isn't readable (written by another version)."""
        try:
            return msgspec.json.decode(layout.state.read_bytes(), type=cls)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None

    def save(self, layout: Layout) -> None:
        """Write the record in one step: a reader sees the old one or the new one."""
        draft = layout.state.with_suffix(".new")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))
        os.replace(draft, layout.state)
