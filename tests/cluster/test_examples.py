"""Every example is taken by a real API server, and the one without a GPU reads a page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import cluster as support
from tests.support import keda
from tests.support.paths import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.fixture(scope="module")
def namespace(cluster: support.Place) -> Iterator[str]:
    with keda.defined(cluster), cluster.namespace("examples") as made:
        yield made


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_api_server_takes_an_example_as_it_stands(
    cluster: support.Place, namespace: str, path: Path
) -> None:
    """Strictly: a field that a kind doesn't have is refused, and so is what breaks a rule of the definition."""
    said = cluster.kubectl(
        *("-n", namespace, "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", str(path))
    )
    kinds = [each["kind"] for each in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    assert said.count("serverside-applied (server dry run)") == len(kinds)


def test_an_autoscaler_finds_the_scale_of_what_it_names(cluster: support.Place, namespace: str) -> None:
    """What HPA and KEDA scale is there in the same file, has a subresource `scale`, and says no replicas itself."""
    seen = 0
    for path in EXAMPLES:
        objects = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        resources = {each["metadata"]["name"]: each for each in objects if each["kind"] == "OcrDeployment"}
        for each in objects:
            if (target := each.get("spec", {}).get("scaleTargetRef")) is None:
                continue
            seen += 1
            resource = resources[target["name"]]
            assert (target["apiVersion"], target["kind"]) == (resource["apiVersion"], resource["kind"])
            assert "replicas" not in resource["spec"]
            cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=yaml.safe_dump(resource))
            path_of_scale = (
                f"/apis/ocr-operator.io/v1alpha1/namespaces/{namespace}/ocrdeployments/{target['name']}/scale"
            )
            assert '"kind":"Scale"' in cluster.kubectl("get", "--raw", path_of_scale)
            cluster.kubectl("-n", namespace, "delete", "ocr", target["name"], "--wait=false")
    assert seen >= 2
