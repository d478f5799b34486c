"""A throwaway cluster as a Python object, for tests and the demo."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Shape:
    """What a cluster consists of. Without nodes it is a control plane alone, ready in about 4 s."""

    nodes: int = 0
    gpus: int = 2
    operator: bool = False


class Cluster:
    """A running cluster. It ends with `stop`, with its `with` block, or with the process that holds it, however that ends."""

    directory: Path
    kubeconfig: Path
    authority: Path
    url: str
    token: str

    @classmethod
    def start(
        cls, directory: Path, *, nodes: int = 0, gpus: int = 2, operator: bool = False, say: Callable[[str], None] = print
    ) -> Self:
        """Start a cluster in the folder and return when all of it is ready.

        Raises ControlPlaneUnavailable when its programs can't be had, StartFailed with the log's end when a part of it fails.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """End all processes and remove the folder; nothing happens the second time."""
        raise NotImplementedError

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl as administrator and return its output; a failure raises DevclusterError with what it printed."""
        raise NotImplementedError

    def node_kubeconfig(self, name: str) -> Path:
        """Credentials of the node (gpu-a to gpu-z), which need not run: user `system:node:<name>`."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
