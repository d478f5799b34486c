"""Build the images with the builder of this machine: `python3 container/build.py`, or `make images`.

Needs nothing but Python. docker, podman and buildah take the same Dockerfiles; the first one that works here is used.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
REGISTRY: Final = "ghcr.io/ocr-operator"


@dataclass(frozen=True)
class Effort:
    """What a build takes without any cache: bytes from package indexes and of disk, and time on two busy cores."""

    downloads_gb: float
    disk_gb: int
    minutes: int

    def __str__(self) -> str:
        return (
            f"{self.downloads_gb:g} GB of packages, up to {self.disk_gb} GB of disk while it is built, "
            f"about {self.minutes} min on two cores"
        )


@dataclass(frozen=True)
class Image:
    """Image that is built: of which file, which target of it, and what its tag ends with."""

    repository: str
    file: str
    target: str
    takes: Effort
    suffix: str = ""

    def name(self, registry: str, tag: str) -> str:
        prefix = f"{registry.rstrip('/')}/" if registry else ""
        return f"{prefix}{self.repository}:{tag}{self.suffix}"


IMAGES: Final = {
    "operator": Image("ocr-operator", "Dockerfile.operator", "operator", Effort(0.02, 1, 1)),
    "cpu": Image("ocr-inference", "Dockerfile.inference", "cpu", Effort(0.2, 3, 2)),
    "cuda": Image("ocr-inference", "Dockerfile.inference", "cuda", Effort(3.2, 32, 12), "-cuda"),
    "vllm": Image("ocr-inference", "Dockerfile.inference", "vllm", Effort(7.2, 70, 35), "-vllm"),
}
USUAL: Final = ("operator", "cpu")
"""Without `--only`: the others are GPU images of many GB."""

BUILDERS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "docker": (("docker", "build"), ("docker", "version")),
    "podman": (("podman", "build"), ("podman", "info")),
    "buildah": (("buildah", "bud"), ("buildah", "info")),
}
"""How each builds, and what fails where it can't: docker without its engine, buildah without the right to its store."""


class NoBuilder(Exception):
    """Nothing here builds images; the message says what would."""


def choose(wanted: str, answers: Callable[[str], str | None]) -> str:
    """Return the builder: the wanted one, else the first that works; `answers` says why one doesn't."""
    said = []
    for builder in (wanted,) if wanted else BUILDERS:
        why = answers(builder)
        if why is None:
            return builder
        said.append(f"  {builder}: {why}")
    raise NoBuilder(
        "no builder of images works here:\n"
        + "\n".join(said)
        + "\nInstall docker, podman or buildah (`apt-get install buildah`), or name one with BUILDER=."
    )


def commands(
    builder: str, image: Image, name: str, arguments: Mapping[str, str], *, push: bool
) -> list[list[str]]:
    """Return the commands that build an image and push it."""
    build, _ = BUILDERS[builder]
    values = [f"--build-arg={key}={value}" for key, value in arguments.items()]
    # Images in the format of OCI have no health check; only buildah and podman ask for a format.
    form = [] if builder == "docker" else ["--format=docker"]
    made = [
        [*build, *form, *values, f"--file={image.file}", f"--target={image.target}", f"--tag={name}", "."]
    ]
    return [*made, [builder, "push", name]] if push else made


def base_of(image: Image, arguments: Mapping[str, str]) -> str:
    """Return the image that an image is built on."""
    text = (ROOT / image.file).read_text(encoding="utf-8")
    default = re.search(r"^ARG BASE_IMAGE=(\S+)$", text, re.MULTILINE)
    assert default is not None
    return arguments.get("RUNTIME_IMAGE") or arguments.get("BASE_IMAGE") or default[1]


def _answers(builder: str) -> str | None:
    if builder not in BUILDERS:
        return f"unknown; known are {', '.join(BUILDERS)}"
    if shutil.which(builder) is None:
        return "not installed"
    done = subprocess.run(BUILDERS[builder][1], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
    return f"installed, but doesn't work: {lines[-1]}"


def _size(builder: str, name: str) -> str:
    done = subprocess.run(
        [builder, "images", "--format", "{{.Size}}", name], capture_output=True, text=True, check=False
    )
    return next(iter(done.stdout.split("\n")), "").strip() or "unknown"


def _revision() -> str:
    if shutil.which("git") is None:  # an archive of the sources is built, too
        return "unknown"
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def version() -> str:
    """Return the version of the project, by pyproject.toml."""
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    root = argparse.ArgumentParser(description="Build the images of the operator and of inference pods.")
    root.add_argument(
        "--builder", default="", help="docker, podman or buildah (default: the first that works)"
    )
    root.add_argument("--registry", default=REGISTRY, help=f"registry and folder (default: {REGISTRY})")
    root.add_argument("--tag", default="", help="tag of the images (default: the version)")
    root.add_argument("--only", default=" ".join(USUAL), help=f"which ones, of: {' '.join(IMAGES)}")
    root.add_argument("--push", action="store_true", help="push each to the registry when it is built")
    root.add_argument(
        "--build-arg", action="append", default=[], metavar="NAME=VALUE", help="BASE_IMAGE=…, FLASH_ATTN=1"
    )
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Build, push where asked to, and print the sizes."""
    arguments = parser().parse_args(argv)
    chosen = arguments.only.split()
    if unknown := [each for each in chosen if each not in IMAGES]:
        print(f"no image {unknown[0]!r}: there are {', '.join(IMAGES)}", file=sys.stderr)
        return 2
    try:
        builder = choose(arguments.builder, _answers)
    except NoBuilder as error:
        print(error, file=sys.stderr)
        return 1
    values = {"VERSION": version(), "REVISION": _revision()}
    values |= dict(each.split("=", 1) for each in arguments.build_arg if "=" in each)
    for each in chosen:
        print(f"{each}: without a cache {IMAGES[each].takes}", flush=True)
    sizes = []
    for each in chosen:
        image = IMAGES[each]
        name = image.name(arguments.registry, arguments.tag or version())
        for command in commands(builder, image, name, values, push=arguments.push):
            print(" ".join(command), flush=True)
            if subprocess.run(command, cwd=ROOT, env=dict(os.environ), check=False).returncode:
                print(f"{each}: `{' '.join(command[:2])}` failed, see above", file=sys.stderr)
                return 1
        base = base_of(image, values)
        sizes.append(f"{name}: {_size(builder, name)}, of which its base {base}: {_size(builder, base)}")
    print("\n".join(sizes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
