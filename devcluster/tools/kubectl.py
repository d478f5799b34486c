"""kubectl, and its plugin of this checkout, run as the user of one kubeconfig."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from devcluster.errors import DevclusterError
from devcluster.progress import Progress
from devcluster.tools.toolbox import Toolbox

_SECONDS: Final = 120.0


class Kubectl:
    """Runner of commands on one cluster; each that fails raises DevclusterError with what it printed."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    def run(self, *arguments: str, stdin: str = "") -> str:
        """Run `kubectl …` and return its output."""
        return self._run("kubectl", f"--kubeconfig={self._kubeconfig}", *arguments, stdin=stdin)

    def plugin(self, *arguments: str) -> str:
        """Run `kubectl ocr …` and return its output."""
        return self._run(str(Path(sys.executable).with_name("kubectl-ocr")), *arguments)

    def _run(self, *command: str, stdin: str = "") -> str:
        done = subprocess.run(
            command,
            input=stdin,
            env=environment(self._kubeconfig),
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
        if done.returncode != 0:
            raise DevclusterError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout


def environment(kubeconfig: Path) -> dict[str, str]:
    """Return our own environment with that kubeconfig, and with kubectl and this checkout's programs first on PATH."""
    kubectl = Toolbox(os.environ, Progress(sys.stderr)).kubectl()
    folders = (str(Path(sys.executable).parent), str(kubectl.parent), os.environ.get("PATH", os.defpath))
    return {**os.environ, "PATH": os.pathsep.join(folders), "KUBECONFIG": str(kubeconfig)}
