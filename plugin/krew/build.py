"""Builds the archives of `kubectl ocr` for krew, and the manifest that names them.

An archive is a folder that runs where it lies: a launcher, our packages, and what they import, for each version of
Python that is supported. ADR 30 has the alternatives.
"""

import argparse
import gzip
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent
PYTHONS: Final = ("3.11", "3.12", "3.13")
PLATFORMS: Final = {
    ("linux", "amd64"): "x86_64-manylinux_2_28",
    ("linux", "arm64"): "aarch64-manylinux_2_28",
    ("darwin", "amd64"): "x86_64-apple-darwin",
    ("darwin", "arm64"): "aarch64-apple-darwin",
}
"""krew's words → uv's."""
IMPORTED: Final = ("aiohttp", "msgspec", "pyyaml")
"""What the plugin imports besides the standard library; the locked versions are taken."""
RELEASES: Final = "https://github.com/ocr-operator/ocr-operator/releases/download"


def build(out: Path, platforms: Sequence[tuple[str, str]], pythons: Sequence[str], uv: str) -> dict[str, Any]:
    """Write the archives and the manifest into a folder, and return the manifest."""
    manifest: dict[str, Any] = yaml.safe_load((HERE / "ocr.yaml").read_text())
    version = manifest["spec"]["version"]
    out.mkdir(parents=True, exist_ok=True)
    built = []
    for os_, arch in platforms:
        name = f"kubectl-ocr-{version}-{os_}-{arch}.tar.gz"
        with tempfile.TemporaryDirectory() as folder:
            _fill(Path(folder), PLATFORMS[os_, arch], pythons, uv)
            packed = _packed(Path(folder))
        (out / name).write_bytes(packed)
        built.append(
            {
                "selector": {"matchLabels": {"os": os_, "arch": arch}},
                "uri": f"{RELEASES}/{version}/{name}",
                "sha256": hashlib.sha256(packed).hexdigest(),
                "bin": "kubectl-ocr",
            }
        )
    manifest["spec"]["platforms"] = built
    (out / "ocr.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    return manifest


def _fill(folder: Path, platform: str, pythons: Sequence[str], uv: str) -> None:
    for source in ("plugin/kubectl_ocr", "wire/ocr_wire"):
        shutil.copytree(
            ROOT / source, folder / "app" / Path(source).name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "LICENSE", folder / "LICENSE")
    shutil.copy(HERE / "launcher.py", folder / "kubectl-ocr")
    (folder / "kubectl-ocr").chmod(0o755)
    export = (uv, "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--no-hashes")
    exported = subprocess.run((*export, "--project", str(ROOT)), check=True, capture_output=True, text=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write(exported.stdout)
        constraints.flush()
        for python in pythons:
            command = (uv, "pip", "install", "--quiet", "--target", str(folder / "lib" / python))
            chosen = ("--python-version", python, "--python-platform", platform, "--only-binary", ":all:")
            subprocess.run((*command, *chosen, "--constraint", constraints.name, *IMPORTED), check=True)
    for left in ("bin", ".lock"):
        for path in folder.glob(f"lib/*/{left}"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _packed(folder: Path) -> bytes:
    """Return the folder as an archive whose bytes depend on nothing but what is in it.

    No links: uv makes hard ones into its cache, and krew refuses an archive that has any.
    """
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT, dereference=True) as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                tar.add(path, str(path.relative_to(folder)), filter=_anonymous)
    return gzip.compress(plain.getvalue(), mtime=0)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.mode & 0o100 else 0o644
    return entry


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the archives and the manifest for krew.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "krew")
    parser.add_argument("--uv", default="uv")
    given = parser.parse_args()
    manifest = build(given.out, tuple(PLATFORMS), PYTHONS, given.uv)
    for each in manifest["spec"]["platforms"]:
        sys.stdout.write(f"{each['sha256']}  {given.out / each['uri'].rpartition('/')[2]}\n")
    sys.stdout.write(f"{given.out / 'ocr.yaml'}\n")


if __name__ == "__main__":
    main()
