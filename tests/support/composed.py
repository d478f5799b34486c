"""Compose files as Docker Compose loads them: by its own library, built with Go from what `compose/go.mod` pins."""

import io
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devcluster.errors import ControlPlaneUnavailable
from devcluster.progress import Progress
from devcluster.tools import gobuild
from tests.support.paths import ROOT

_PINS = Path(__file__).with_name("compose")


@dataclass(frozen=True)
class Composed:
    program: Path

    def services(self, *files: str, **environ: str) -> dict[str, Any]:
        """The services of these files together, merged and interpolated; what Compose refuses fails the test."""
        project = self._project(*files, **environ)
        found: dict[str, Any] = project["services"]
        return found

    def secrets(self, *files: str) -> dict[str, Any]:
        found: dict[str, Any] = self._project(*files)["secrets"]
        return found

    def _project(self, *files: str, **environ: str) -> dict[str, Any]:
        done = subprocess.run(
            [self.program, *files],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def build(folder: Path) -> Composed:
    """The program, in that folder; about ten seconds of compiling, once for Go's cache."""
    said = io.StringIO()
    try:
        go = gobuild.find_go(os.environ, folder, Progress(said))
        go.build(_PINS, ["."], [], folder, title="compose", total=0, estimate_seconds=10)
    except ControlPlaneUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"Docker Compose's library can't be built: {error}")
    return Composed(folder / "compose")
