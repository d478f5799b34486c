"""Images built as released, from a base that any Debian-like machine can make without a registry."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from container import build
from tests.support.lacking import lacks
from tests.support.paths import ROOT

CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
BASE: Final = "localhost/python-base:1"
SHELL_LESS: Final = "localhost/python-alone:1"
"""The same without any shell, which is what images are built on: nothing of ours may need one."""
SHELLS: Final = ("sh", "dash", "bash", "rbash")


@dataclass(frozen=True)
class Buildah:
    """buildah with a store of its own, so that nothing is left on the machine."""

    store: Path

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        # vfs and chroot work where overlay mounts and namespaces don't, as inside a container.
        place = ["--root", str(self.store / "root"), "--runroot", str(self.store / "run")]
        environment = {key: value for key, value in os.environ.items() if key != "STORAGE_DRIVER"}
        done = subprocess.run(
            ["buildah", *place, "--storage-driver", "vfs", *arguments],
            cwd=ROOT,
            env=environment | {"BUILDAH_ISOLATION": "chroot"},
            capture_output=True,
            text=True,
            timeout=2400,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"buildah {arguments[0]}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
        return done

    def build(self, which: str, base: str, alone: str) -> str:
        """Build an image by the command of `make images`, and return its name."""
        image = build.IMAGES[which]
        name = image.name(build.REGISTRY, build.version())
        values = {"BASE_IMAGE": base, "RUNTIME_IMAGE": alone, "VERSION": build.version(), "REVISION": "abc"}
        [(_, *command)] = build.commands("buildah", image, name, values, push=False)
        self(*command)
        return name

    def archive(self, name: str, target: Path) -> Path:
        """Write an image into a file that containerd imports."""
        self("push", "--quiet", name, f"docker-archive:{target}:{name}")
        return target


def skip_without_tools() -> None:
    """Skip where images can't be built, with what is missing; fail in CI where root and apt are."""
    missing = [tool for tool in ("buildah", "debootstrap") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        what = f"as root: apt-get install {' '.join(missing)}" if missing else "run as root"
        lacks(f"building images needs root, buildah and debootstrap: {what}")


def base(buildah: Buildah) -> tuple[str, str]:
    """Make a minimal system of this machine's own distribution with python3 and venv, and the same without shells.

    With OCR_TEST_BASE_IMAGE an image of that name is both.
    """
    if given := os.environ.get("OCR_TEST_BASE_IMAGE"):
        return given, given
    rootfs = buildah.store / "rootfs"
    release = dict(
        re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text("utf-8"), re.MULTILINE)
    )
    components = "main,universe" if release["ID"] == "ubuntu" else "main"
    packages = "python3,python3-venv,ca-certificates"
    subprocess.run(
        [
            *("debootstrap", "--variant=minbase", f"--components={components}", f"--include={packages}"),
            *(release["VERSION_CODENAME"], str(rootfs), apt_mirror(release["VERSION_CODENAME"])),
        ],
        check=True,
        capture_output=True,
        timeout=1200,
    )
    # What this machine trusts; behind a proxy that is more than what the distribution ships.
    shutil.copyfile(CERTIFICATES, rootfs / CERTIFICATES.relative_to("/"))
    _commit(buildah, rootfs, BASE)
    for folder in ("bin", "usr/bin"):
        for shell in SHELLS:
            (rootfs / folder / shell).unlink(missing_ok=True)
    _commit(buildah, rootfs, SHELL_LESS)
    shutil.rmtree(rootfs)
    return BASE, SHELL_LESS


def _commit(buildah: Buildah, rootfs: Path, name: str) -> None:
    container = buildah("from", "scratch").stdout.strip()
    buildah("add", container, str(rootfs), "/")
    buildah("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
    buildah("commit", "--rm", container, name)


def apt_mirror(codename: str) -> str:
    """The mirror that apt takes this release from."""
    for file in sorted(Path("/etc/apt").rglob("*.sources")):
        for stanza in file.read_text(encoding="utf-8").split("\n\n"):
            fields = dict(re.findall(r"^(\w[\w-]*):\s*(.+)$", stanza, re.MULTILINE))
            if codename in fields.get("Suites", "").split():
                return str(fields["URIs"].split()[0])
    for file in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*.list"))):
        if file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines():
                if found := re.match(rf"deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+{codename}\s", line):
                    return str(found[1])
    raise LookupError(f"no file of /etc/apt names a mirror of {codename}")
