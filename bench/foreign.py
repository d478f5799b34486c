"""Packages that only a measurement needs: installed into the git-ignored `.cache/`, not into the environment."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
CACHE: Final = ROOT / ".cache" / "bench"


@cache
def packages(name: str, requirements: Sequence[str], *, with_dependencies: bool = False) -> Path:
    """Install packages from PyPI into a folder of that name, once, and return it."""
    options = [] if with_dependencies else ["--no-deps"]
    return _once(name, requirements, lambda folder: [[*_INTO, str(folder), *options, *requirements]])


@cache
def environment(name: str, requirements: Sequence[str]) -> Path:
    """Install packages and what they need into an environment of that name, once, and return its programs' folder."""

    def commands(folder: Path) -> list[list[str]]:
        python = str(folder / "bin" / "python")
        return [
            ["venv", "--quiet", "--python", sys.executable, str(folder)],
            ["pip", "install", "--quiet", "--python", python, *requirements],
        ]

    return _once(name, requirements, commands) / "bin"


_INTO: Final = ("pip", "install", "--quiet", "--python", sys.executable, "--target")


def _once(name: str, requirements: Sequence[str], commands: Callable[[Path], list[list[str]]]) -> Path:
    folder = CACHE / name
    done = folder / ".requirements"
    wanted = "\n".join(requirements)
    if not done.exists() or done.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
        for command in commands(folder):
            subprocess.run([uv, *command], check=True)
        done.write_text(wanted)
    return folder
