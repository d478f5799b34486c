"""Images built as released, from a base that any Debian-like machine can make without a registry."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from container import build
from devcluster.container import host
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

    @cached_property
    def driver(self) -> str:
        """How layers are kept: `vfs`, a copy of all that is below for each, where overlay mounts don't work."""
        return "overlay" if overlays(self.store) else "vfs"

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        place = ["--root", str(self.store / "root"), "--runroot", str(self.store / "run")]
        environment = {key: value for key, value in os.environ.items() if key != "STORAGE_DRIVER"}
        # chroot works where namespaces don't, as inside a container; layers on their way are files of TMPDIR.
        environment |= {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(self.store)}
        done = subprocess.run(
            ["buildah", *place, "--storage-driver", self.driver, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=2400,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"buildah {arguments[0]}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
        return done

    def build(self, which: str, base: str, alone: str, built: Mapping[str, str]) -> str:
        """Build an image by the command of `make images`, and return its name; of stages `built` there are images."""
        image = build.IMAGES[which]
        file = self.store / f"Dockerfile.{which}"
        file.write_text(needed((ROOT / image.file).read_text("utf-8"), image.target, built), encoding="utf-8")
        image = replace(image, file=str(file))
        values = {"BASE_IMAGE": base, "RUNTIME_IMAGE": alone, "VERSION": build.version(), "REVISION": "abc"}
        [(_, *command)] = build.commands("buildah", image, name(which), values, push=False)
        self(*command)
        return name(which)

    def images(self) -> set[str]:
        """Return the names of the images that are in the store."""
        return set(self("images", "--format", "{{.Name}}:{{.Tag}}").stdout.split())

    def remove(self) -> None:
        """Remove the store with all that is in it. Its containers, and the folder of overlays itself, are mounts."""
        self("rm", "--all", check=False)
        for mount in reversed(list(host.mounts(self.store))):
            subprocess.run(["umount", mount], check=True)
        shutil.rmtree(self.store)

    def archive(self, name: str, target: Path) -> Path:
        """Write an image into a file that containerd imports."""
        self("push", "--quiet", name, f"docker-archive:{target}:{name}")
        return target


def name(which: str) -> str:
    """Return the name that the chart has for an image by default."""
    return build.IMAGES[which].name(build.REGISTRY, build.version())


def needed(dockerfile: str, target: str, built: Mapping[str, str]) -> str:
    """Return what of a Dockerfile its target needs, with the stages that there are images of replaced by these.

    As BuildKit does by itself; buildah 1.28, Debian 12's, builds every stage, which are 15 GB for the target `vllm`.
    """
    head, *stages = re.split(r"(?m)^(?=FROM )", dockerfile)
    named = {found[1]: stage for stage in stages if (found := re.match(r"FROM \S+ AS (\S+)", stage))}
    wanted, todo = set(), [target]
    while todo:
        wanted.add(todo[-1])
        uses = re.findall(r"^FROM (\S+)|--from=(\S+)", named[todo.pop()], re.MULTILINE)
        todo += [use for pair in uses for use in pair if use in named and use not in built]
    text = head + "".join(stage for name, stage in named.items() if name in wanted)
    return re.sub(r"(?m)(^FROM |--from=)(\S+)", lambda found: found[1] + built.get(found[2], found[2]), text)


@dataclass(frozen=True)
class Builds:
    """Images of one store, each built when it is asked for first."""

    buildah: Buildah
    bases: tuple[str, str]
    names: dict[str, str] = field(default_factory=dict)

    def name(self, which: str) -> str:
        if which not in self.names:
            self.names[which] = self.buildah.build(which, *self.bases, self.names)
        return self.names[which]


def overlays(folder: Path) -> bool:
    """Say whether an overlay can be mounted on folders in this one: not inside many containers, or on an overlay."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        parts = {part: Path(name, part) for part in ("lowerdir", "upperdir", "workdir", "merged")}
        for part in parts.values():
            part.mkdir()
        target = str(parts.pop("merged"))
        options = ",".join(f"{key}={part}" for key, part in parts.items())
        mounted = subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", options, target], capture_output=True, check=False
        )
        if mounted.returncode == 0:
            subprocess.run(["umount", target], check=True)
        return mounted.returncode == 0


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
