"""Backups of a devcluster's etcd: the control plane is stopped, its data copied or put back, and started again."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from devcluster.cluster import Cluster
from devcluster.machine import processes
from devcluster.machine.layout import Layout
from tests.support import apiserver
from tests.support.patience import PATIENCE
from tests.support.relaunch import Program
from tests.support.waiting import until

STOPPED: Final = {"kube-apiserver": signal.SIGKILL, "etcd": signal.SIGTERM}
"""In the order in which they are stopped, and how; started the other way round. An API server that is asked to end
waits for a minute for its watches, and has nothing to lose.
"""


@dataclass
class ControlPlane:
    """etcd and the API server of a cluster, which are this process's children from the first stop on."""

    cluster: Cluster
    _programs: dict[str, Program] = field(default_factory=dict)
    _started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def _data(self) -> Path:
        return Layout(self.cluster.directory).etcd / "data"

    def backup(self, folder: Path) -> None:
        """Copy the data, with the control plane down."""
        self._stop()
        shutil.copytree(self._data, folder)
        self._start()

    def restore(self, folder: Path) -> None:
        """Put a copy in the place of the data, with the control plane down."""
        self._stop()
        shutil.rmtree(self._data)
        shutil.copytree(folder, self._data)
        self._start()

    def restart(self) -> None:
        """Start both again; the API server has forgotten which versions came before."""
        self._stop()
        self._start()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody answers within the block."""
        self._stop()
        try:
            yield
        finally:
            self._start()

    def _stop(self) -> None:
        for name, number in STOPPED.items():
            if (mine := self._started.pop(name, None)) is not None:
                mine.send_signal(number)
                mine.wait(PATIENCE)
                continue
            [record] = [each for each in self.cluster.state.processes if each.name == name]
            self._programs[name] = Program.of(record.identity)
            processes.send(record.identity, number)
            assert processes.wait([record.identity], PATIENCE) == []

    def _start(self) -> None:
        for name in reversed(STOPPED):
            log = Layout(self.cluster.directory).log(name)
            self._started[name] = self._programs[name].start(log)
        until(self._answers, PATIENCE, "the API server answers again")

    def _answers(self) -> bool:
        try:
            apiserver.request(self.cluster.kubeconfig, "GET", "/api/v1/namespaces/default")
        except Exception:  # noqa: BLE001 -- whatever a client raises while nobody listens
            return False
        return True

    def close(self) -> None:
        for each in self._started.values():
            each.kill()
            each.wait()


@contextmanager
def control_plane(cluster: Cluster) -> Iterator[ControlPlane]:
    found = ControlPlane(cluster)
    try:
        yield found
    finally:
        found.close()
