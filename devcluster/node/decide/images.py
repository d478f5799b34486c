"""Which program an image stands for. A process node pulls nothing: it runs the project's images and refuses others."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devcluster.machine.layout import CHECKOUT

SHELL = "localhost/devcluster/shell"
"""Runs a container's `command` as it stands; for tests of the node."""


@dataclass(frozen=True)
class Unknown:
    """Image that this node can't run; `message` says why."""

    message: str


@dataclass(frozen=True)
class Program:
    """Argument list to start, before variables and paths are put in."""

    argv: list[str]


@dataclass(frozen=True)
class Programs:
    """Programs of our images: in `bin` of the virtual environment, by the image's last name."""

    bin: Path

    @property
    def folders(self) -> tuple[str, str]:
        """The virtual environment and the checkout."""
        return str(self.bin.parent), str(CHECKOUT)

    def entrypoints(self) -> Mapping[str, list[str]]:
        return {
            "ocr-operator": [str(self.bin / "ocr-operator")],
            "ocr-inference": [str(self.bin / "ocr-inference")],
            "dcgm-exporter": [str(self.bin / "python"), "-m", "devcluster.exporter"],
        }

    def resolve(self, image: str, command: list[str], args: list[str]) -> Program | Unknown:
        """Return the program of a container; `command` replaces the image's entrypoint as in Kubernetes."""
        repository = _repository(image)
        if repository == SHELL:
            if not command:
                return Unknown(f"image {image} has no entrypoint: give the container a command")
            return Program([*command, *args])
        entrypoint = self.entrypoints().get(repository.rpartition("/")[2])
        if entrypoint is None:
            known = ", ".join(sorted(self.entrypoints()))
            return Unknown(
                f'failed to pull and unpack image "{image}": process nodes have no registry and run only {known}'
            )
        if not command:
            return Program([*entrypoint, *args])
        ours = self.bin / command[0]
        first = str(ours) if "/" not in command[0] and ours.exists() else command[0]
        return Program([first, *command[1:], *args])


def _repository(image: str) -> str:
    """Return the name without tag and digest; a colon before the last slash belongs to the registry's port."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
