"""Packages that only a measurement needs: installed into the git-ignored `.cache/`, not into the environment."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
CACHE: Final = ROOT / ".cache" / "bench"


@cache
def packages(name: str, requirements: Sequence[str], *, with_dependencies: bool = False) -> Path:
    """Install packages from PyPI into a folder of that name, once, and return it."""
    folder = CACHE / name
    done = folder / ".requirements"
    wanted = "\n".join(requirements)
    if not done.exists() or done.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
        options = [] if with_dependencies else ["--no-deps"]
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(folder)]
        subprocess.run([*command, *options, *requirements], check=True)
        done.write_text(wanted)
    return folder
