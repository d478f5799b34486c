"""The charts by Helm 3, which many clusters and GitOps tools still have: from the first version to this one and back.

Slow, since Helm 3 is built for it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.progress import Progress
from devcluster.supervisor import helm as environments
from devcluster.tools.toolbox import Toolbox
from tests.support import cluster as support
from tests.support import definitions, resources
from tests.support.paths import ROOT
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1200)]

CHARTS = ROOT / "charts"
CHART = str(CHARTS / "ocr-operator")
FROZEN = ROOT / "tests" / "frozen" / "v0.1.0"
Helm = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def program() -> Path:
    return Toolbox(os.environ, Progress(sys.stderr)).helm3()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[support.Place]:
    """A cluster of its own, whose node runs the operator's pod as a process."""
    with support.started(tmp_path / "cluster", nodes=1, gpus=1) as cluster:
        yield support.of(cluster)


@pytest.fixture
def helm(program: Path, place: support.Place, tmp_path: Path) -> Helm:
    def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
        where = (f"--kubeconfig={place.kubeconfig}", "--namespace=ocr-system")
        done = subprocess.run(
            [str(program), *arguments, *where],
            env=environments.environment(os.environ, tmp_path),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return call


def stored(place: support.Place) -> dict[str, Any]:
    found = json.loads(place.kubectl("get", "ocrdeployments", "-n", "default", "-o", "json"))
    return {each["metadata"]["name"]: (each["metadata"]["uid"], each["spec"]) for each in found["items"]}


def works(place: support.Place) -> bool:
    """Whether an operator has looked at the resource as it is now."""
    body = json.loads(place.kubectl("get", "ocr/invoices", "-n", "default", "-o", "json"))
    return bool(body["status"].get("observedGeneration") == body["metadata"]["generation"])


def test_charts_are_linted_and_rendered(helm: Helm) -> None:
    assert helm("version", "--short").stdout.startswith("v3.")
    for name in ("ocr-operator", "ocr-operator-crds", "ocr-resources"):
        linted = helm("lint", str(CHARTS / name), "--strict").stdout
        assert "0 chart(s) failed" in linted
    rendered = helm("template", "ours", CHART).stdout
    assert rendered.count("kind: ValidatingAdmissionPolicy\n") == 4


def test_release_of_the_first_version_is_upgraded_rolled_back_and_removed(
    helm: Helm, place: support.Place, tmp_path: Path
) -> None:
    install = ("install", "ours", str(FROZEN / "chart"), "--create-namespace", "--set=logLevel=debug")
    helm(*install, "--wait", "--timeout=120s")
    definitions.established(place.kubectl)
    body = resources.make_body("invoices", replicas=0, gpu={"sharing": "none"})
    body["metadata"] = {"name": "invoices"}
    place.kubectl("apply", "-n", "default", "-f", "-", stdin=json.dumps(body))
    until(lambda: works(place), what="the operator of 0.1.0's chart works")
    before = stored(place)

    upgraded = helm("upgrade", "ours", CHART, "--reuse-values", "--wait", "--timeout=120s")
    assert "deployed" in upgraded.stdout
    assert stored(place) == before
    place.kubectl("scale", "ocr/invoices", "-n", "default", "--replicas=1")
    until(lambda: works(place), what="this version's operator works")
    helm("upgrade", "ours", CHART, "--reuse-values", "--wait", "--timeout=120s")

    # Helm 3 knows nothing of kstatus: a resource that never gets ready is no reason to wait (docs/upgrades.md).
    never = {
        "deployments": {"never": {"spec": {**body["spec"], "replicas": 1, "gpu": {"sharing": "exclusive"}}}}
    }
    (tmp_path / "never.yaml").write_text(json.dumps(never), encoding="utf-8")
    files = ("--values", str(tmp_path / "never.yaml"))
    helm("install", "never", str(CHARTS / "ocr-resources"), *files, "--wait", "--timeout=60s")
    waits = json.loads(place.kubectl("get", "ocr/never", "-n", "ocr-system", "-o", "json"))["status"]
    assert not [each for each in waits["conditions"] if (each["type"], each["status"]) == ("Ready", "True")]
    helm("uninstall", "never")

    helm("rollback", "ours", "1", "--wait", "--timeout=120s")
    place.kubectl("scale", "ocr/invoices", "-n", "default", "--replicas=0")
    until(lambda: works(place), what="the older operator works again")
    assert stored(place) == before

    helm("uninstall", "ours", "--wait", "--timeout=120s")
    assert stored(place) == before, "definitions and resources are kept"
    names = place.kubectl("get", "clusterroles,validatingadmissionpolicies", "-o", "name")
    assert "ours-ocr-operator" not in names
