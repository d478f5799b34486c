"""A container without an engine: what Docker would run, by bubblewrap, as the image and the compose file say.

Its root is read-only and has the system, this Python and this checkout; `/tmp` is a tmpfs mounted as Docker mounts
them (nothing in it can be executed); the process is number 1, of the image's user, without capabilities. The network
is the machine's.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from tests.support.paths import ROOT

TMPFS: Final = "noexec,nosuid,nodev"
"""Options that Docker gives each tmpfs."""
_SYSTEM: Final = ("/usr", "/bin", "/lib", "/lib64", "/etc")
_BY_ROOT: Final = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")


@dataclass(frozen=True)
class Image:
    """What the stage `runtime` of a Dockerfile says, which its targets are made of."""

    environ: Mapping[str, str]
    user: int
    command: tuple[str, ...]
    """Entry point and default command."""
    healthcheck: tuple[str, ...]
    volume: str
    port: int


def image(dockerfile: Path) -> Image:
    """Read a Dockerfile whose instructions are in the form of `exec`."""
    stages = dockerfile.read_text(encoding="utf-8").replace("\\\n", " ").split("\nFROM ")
    [text] = [stage for stage in stages if re.match(r"\S+ AS runtime\n", stage)]

    def after(instruction: str) -> str:
        *_, last = re.finditer(rf"^ *{instruction} +(.+)$", text, re.MULTILINE)
        return last[1]

    def listed(instruction: str) -> tuple[str, ...]:
        return tuple(re.findall(r'"([^"]*)"', after(instruction)))

    return Image(
        environ=dict(re.findall(r"(\w+)=(\S+)", after("ENV"))),
        user=int(after("USER").partition(":")[0]),
        command=(*listed("ENTRYPOINT"), *listed("CMD")),
        healthcheck=listed("HEALTHCHECK"),
        volume=after("VOLUME"),
        port=int(after("EXPOSE")),
    )


@dataclass(frozen=True)
class Sandbox:
    """Container that isn't started; `binds` are files and folders of the machine, by their place in it."""

    image: Image
    tmp: Path
    binds: Mapping[str, Path]
    environ: Mapping[str, str]

    def with_environ(self, **environ: str) -> "Sandbox":
        return replace(self, environ={**self.environ, **environ})

    def command(self, *command: str) -> list[str]:
        """The command line that runs a command in it."""
        prefix = Path(sys.base_prefix)
        seen = {*(Path(each) for each in _SYSTEM), prefix, ROOT, Path(sys.prefix)}
        options = ["--tmpfs", "/"]
        places = [*seen, *map(Path, self.binds)]
        for folder in sorted({parent for place in places for parent in place.parents}):
            # Those that bubblewrap makes by itself are root's alone.
            options += ["--perms", "0755", "--dir", str(folder)]
        for path in sorted(each for each in seen if each.exists()):
            options += ["--ro-bind", str(path), str(path)]
        options += ["--proc", "/proc", "--dev", "/dev", "--bind", str(self.tmp), "/tmp"]
        for place, path in self.binds.items():
            options += ["--bind", str(path), place]
        options += ["--remount-ro", "/", "--unshare-pid", "--as-pid-1", "--die-with-parent", "--clearenv"]
        for capability in _BY_ROOT:
            options += ["--cap-add", capability]
        environ = {**self.image.environ, **self.environ, "PATH": f"{sys.prefix}/bin:/usr/bin:/bin"}
        for name, value in environ.items():
            options += ["--setenv", name, value]
        user = str(self.image.user)
        as_user = (
            "--reuid",
            user,
            "--regid",
            user,
            "--clear-groups",
            "--bounding-set=-all",
            "--no-new-privs",
        )
        return ["bwrap", *options, "--chdir", "/tmp", "--", "setpriv", *as_user, *command]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*command), capture_output=True, text=True, timeout=120, check=False
        )


@contextmanager
def of(
    image: Image, folder: Path, *, tmpfs: str, binds: Mapping[str, Path], environ: Mapping[str, str]
) -> Iterator[Sandbox]:
    """A sandbox with a `/tmp` of these options; needs root and bubblewrap."""
    if shutil.which("bwrap") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no bubblewrap here: make standalone-tools")
    if os.geteuid() != 0 or subprocess.run(["bwrap", "--ro-bind", "/", "/", "true"], check=False).returncode:
        pytest.skip("a container without an engine needs root that may mount")
    if ROOT.is_relative_to("/tmp"):
        pytest.skip("the container's own /tmp would hide this checkout")
    tmp = folder / "tmp"
    tmp.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"{TMPFS},{tmpfs}", "tmpfs", tmp], check=True)
    try:
        yield Sandbox(image, tmp, binds, environ)
    finally:
        subprocess.run(["umount", "--lazy", tmp], check=True)


def child(pid: int) -> int:
    """The only child of a process."""
    [found] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(found)
