"""What goes into images: the client without what nobody imports, and the bill of materials."""

import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from container import prune, sbom
from tests.support.paths import ROOT


def client(folder: Path) -> Path:
    """A client as the Kubernetes one is laid out: names are imported when they are asked for."""
    package = folder / "big"
    for place in ("", "client", "client/api", "client/models"):
        (package / place).mkdir(parents=True, exist_ok=True)
        (package / place / "__init__.py").write_text("")
    for name in ("api/pods_api", "api/nodes_api", "models/v1_pod", "models/v1_node", "rest"):
        (package / "client" / f"{name}.py").write_text("NAME = 1\n")
    program = folder / "small"
    program.mkdir()
    (program / "__init__.py").write_text("")
    (program / "work.py").write_text("import big.client.models.v1_pod\n")
    return package


def pruned(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, ROOT / "container" / "prune.py", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_only_generated_modules_that_nothing_imports_are_left_out(tmp_path: Path) -> None:
    package = client(tmp_path)
    subprocess.run([sys.executable, "-m", "compileall", "-q", tmp_path], check=True)
    done = pruned(tmp_path, "small", "big")
    assert done.returncode == 0, done.stderr
    left = {path.relative_to(package / "client").as_posix() for path in package.rglob("client/**/*.py")}
    assert left == {"__init__.py", "rest.py", "api/__init__.py", "models/__init__.py", "models/v1_pod.py"}
    compiled = {path.name.split(".")[0] for path in package.rglob("models/__pycache__/*.pyc")}
    assert compiled == {"__init__", "v1_pod"}


def test_a_client_without_such_modules_fails_the_build(tmp_path: Path) -> None:
    """It is laid out in another way then, and the image would grow unnoticed."""
    package = client(tmp_path)
    for name in ("api/pods_api", "api/nodes_api", "models/v1_node"):
        (package / "client" / f"{name}.py").unlink()
    assert pruned(tmp_path, "small", "big").returncode == 1


def test_what_the_client_is_today_is_mostly_left_out() -> None:
    import kubernetes

    [place] = kubernetes.__path__
    assert len(list(prune.unused(Path(place), ()))) > 1500


def document(*components: dict[str, Any]) -> dict[str, Any]:
    root = {"name": "ocr-operator", "version": "1", "bom-ref": "root"}
    return {
        "bomFormat": "CycloneDX",
        "metadata": {"component": root},
        "components": list(components),
        "dependencies": [{"ref": "root", "dependsOn": [each["bom-ref"] for each in components]}],
    }


def component(name: str, version: str) -> dict[str, Any]:
    return {"name": name, "version": version, "bom-ref": f"{name}@{version}", "externalReferences": [1]}


def test_what_another_platform_would_have_is_left_out() -> None:
    found = {"msgspec": distribution("msgspec"), "ocr-operator": distribution("ocr-operator")}
    version = found["msgspec"].version
    made = sbom.pruned(document(component("msgspec", version), component("colorama", "1")), found)
    [entry] = made["components"]
    assert entry["name"] == "msgspec"
    assert entry["licenses"] == [{"expression": "BSD-3-Clause"}]
    assert "externalReferences" not in entry
    assert made["dependencies"] == [{"ref": "root", "dependsOn": [f"msgspec@{version}"]}]


def test_what_the_lock_lacks_is_named() -> None:
    with pytest.raises(LookupError, match="msgspec"):
        sbom.pruned(document(component("msgspec", "0")), {"msgspec": distribution("msgspec")})


def test_what_a_file_of_pins_became_is_listed_by_its_package_urls() -> None:
    found = {"msgspec": distribution("msgspec"), "pyyaml": distribution("PyYAML")}
    pins = "".join(
        f"{name} ; python_version > '3' \\\n    --hash=sha256:0\n"
        for name in (
            f"msgspec=={found['msgspec'].version}",
            f"PyYAML[x]=={found['pyyaml'].version}",
            "other==1",
        )
    )
    made = sbom.pinned(pins, found, "pins.txt")
    assert [each["purl"] for each in made["components"]] == [
        f"pkg:pypi/{name}@{each.version}" for name, each in found.items()
    ]
    assert made["components"][0]["licenses"] == [{"expression": "BSD-3-Clause"}]
    [edges] = made["dependencies"]
    assert edges["dependsOn"] == [each["bom-ref"] for each in made["components"]]
    with pytest.raises(LookupError, match=r"not in pins\.txt: msgspec"):
        sbom.pinned("pyyaml==1\n", found, "pins.txt")


def test_every_environment_of_the_images_has_its_bill_of_materials() -> None:
    for name in ("Dockerfile.operator", "Dockerfile.inference"):
        text = (ROOT / name).read_text(encoding="utf-8")
        copied = set(re.findall(r"^COPY --from=\S+ (/opt/v\w+) /opt/v\w+$", text, re.MULTILINE))
        assert copied
        assert copied == set(re.findall(r"> (/opt/\w+)/sbom\.cdx\.json$", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["Dockerfile.operator", "Dockerfile.inference"])
def test_what_a_build_copies_is_sent_to_it(name: str) -> None:
    """A file that .dockerignore holds back fails the build, after gigabytes of others."""
    text = (ROOT / name).read_text(encoding="utf-8")
    sent = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
        for source in line.split()[:-1]
        if source != "."
    }
    run = {found for found in re.findall(r"container/\w+\.py", text) if f"python {found}" in text}
    assert copied
    assert (copied | run) - sent == set()
