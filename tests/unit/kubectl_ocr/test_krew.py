"""`kubectl ocr` as krew installs it: an archive that runs from a lone folder, and a manifest that krew takes."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from krew import build
from ocr_wire import names
from tests.support import krew
from tests.support.fakekubectl import Fake
from tests.support.paths import ROOT

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "")
PYTHON = "{}.{}".format(*sys.version_info)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """For this machine and this Python alone."""
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    out = tmp_path_factory.mktemp("krew")
    return out, build.build(out, [("linux", MACHINE)], [PYTHON], uv)


def archive(built: tuple[Path, dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    out, manifest = built
    [platform] = manifest["spec"]["platforms"]
    return out / str(platform["uri"]).rpartition("/")[2], platform


def test_it_runs_from_a_lone_folder(built: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    file, platform = archive(built)
    programs = krew.install(platform, file, tmp_path / "krew")
    kubectl = Fake(tmp_path)
    kubectl.answers(f"get {names.RESOURCE}", {"items": [{"metadata": {"name": "invoices"}}]})
    kubectl.answers("get pods", {"items": []})
    (tmp_path / "python3").symlink_to(sys.executable if sys.prefix == sys.base_prefix else _base())
    environ = {"PATH": f"{programs}:{tmp_path}:/usr/bin:/bin", "PYTHONNOUSERSITE": "1", "HOME": str(tmp_path)}

    def types(*words: str, program: str = "kubectl-ocr") -> subprocess.CompletedProcess[str]:
        command = [str(programs / program), *words]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)

    done = types("status", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert [each["name"] for each in json.loads(done.stdout)] == ["invoices"]
    done = types("status", "-o", "yaml")
    assert "name: invoices" in done.stdout, done.stderr
    kubectl.answers(f"get {names.RESOURCE} invoices", {"metadata": {"name": "invoices"}})
    done = types("read", "invoices", "-")
    assert (done.returncode, "no pod of invoices is ready" in done.stderr) == (5, True), done.stderr
    (programs / "kubectl_complete-ocr").symlink_to(programs / "kubectl-ocr")
    assert types("st", program="kubectl_complete-ocr").stdout.startswith("status\t")


def _base() -> str:
    """The Python that the environment of these tests is made from, which has none of our packages."""
    found = getattr(sys, "_base_executable", sys.executable)
    assert isinstance(found, str)
    return found


def test_another_python_is_looked_for_and_named(tmp_path: Path) -> None:
    (tmp_path / "lib" / "3.99").mkdir(parents=True)
    shutil.copy(ROOT / "plugin" / "krew" / "launcher.py", tmp_path / "kubectl-ocr")
    command = [sys.executable, str(tmp_path / "kubectl-ocr"), "status", "-A"]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert f"needs one of python3.99 on PATH; python3 is {PYTHON}" in done.stderr

    other = tmp_path / "python3.99"
    other.write_text('#!/bin/sh\necho "$@"\n')
    other.chmod(0o755)
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.stdout == f"{tmp_path / 'kubectl-ocr'} status -A\n"


def test_the_manifest_keeps_krews_rules(built: tuple[Path, dict[str, Any]]) -> None:
    """Those of its `ValidatePlugin` and of its index's naming guide that a manifest can break."""
    _, manifest = built
    spec = manifest["spec"]
    assert manifest["apiVersion"] == "krew.googlecontainertools.github.com/v1alpha2"
    assert (manifest["kind"], manifest["metadata"]["name"]) == ("Plugin", "ocr")
    assert spec["version"] == f"v{_version()}"
    assert 0 < len(spec["shortDescription"]) <= 80
    assert "\n" not in spec["shortDescription"]
    assert set(spec) == {"version", "homepage", "shortDescription", "description", "caveats", "platforms"}
    for each in spec["platforms"]:
        assert each.keys() == {"selector", "uri", "sha256", "bin"}
        assert re.fullmatch("[a-f0-9]{64}", each["sha256"])
        assert each["selector"]["matchLabels"].keys() == {"os", "arch"}


def _version() -> str:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def test_an_archive_depends_on_nothing_but_what_is_in_it(tmp_path: Path) -> None:
    packed = []
    for name, time in (("one", 1), ("two", 2)):
        folder = tmp_path / name
        (folder / "lib").mkdir(parents=True)
        (folder / "lib" / "a.py").write_text("pass")
        (folder / "kubectl-ocr").write_text("#!")
        (folder / "kubectl-ocr").chmod(0o700)
        os.link(folder / "lib" / "a.py", folder / "lib" / "b.py")
        os.utime(folder / "lib" / "a.py", (time, time))
        packed.append(build._packed(folder))
    assert packed[0] == packed[1]
    with tarfile.open(fileobj=BytesIO(packed[0])) as tar:
        assert {(each.name, each.mode, each.isreg()) for each in tar} == {
            ("kubectl-ocr", 0o755, True),
            ("lib/a.py", 0o644, True),
            ("lib/b.py", 0o644, True),
        }


@pytest.mark.slow
def test_krew_itself_installs_it(built: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    file, _ = archive(built)
    go = {**os.environ, "GOBIN": str(tmp_path), "GOFLAGS": "-mod=mod"}
    subprocess.run(["go", "install", "sigs.k8s.io/krew/cmd/krew@v0.4.3"], env=go, check=True)
    subprocess.run(
        [str(tmp_path / "krew"), "install", f"--manifest={built[0] / 'ocr.yaml'}", f"--archive={file}"],
        env={**os.environ, "KREW_ROOT": str(tmp_path / "root")},
        stdin=subprocess.DEVNULL,
        check=True,
    )
    done = subprocess.run(
        [str(tmp_path / "root" / "bin" / "kubectl-ocr"), "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: kubectl ocr ")
