"""Processes of a devcluster that a test ends, and starts again as they were started."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from devcluster.machine.layout import Identity


@dataclass(frozen=True)
class Program:
    """How a process was started."""

    command: list[bytes]
    environment: dict[bytes, bytes]
    folder: str

    @classmethod
    def of(cls, identity: Identity) -> Self:
        """That of a process that runs."""
        place = Path("/proc") / str(identity.pid)
        words = (place / "environ").read_bytes().split(b"\0")
        pairs = (each.partition(b"=") for each in words if each)
        return cls(
            (place / "cmdline").read_bytes().rstrip(b"\0").split(b"\0"),
            {name: value for name, _, value in pairs},
            os.readlink(place / "cwd"),
        )

    def start(self, log: Path) -> "subprocess.Popen[bytes]":
        """Start it as a child of this process; `log` gets what it prints."""
        with log.open("ab") as opened:
            return subprocess.Popen(
                self.command,
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=opened,
                stderr=opened,
            )
