"""Values of the chart that are absent, shared with a parent chart, or said twice."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ocr_operator.settings import Settings
from tests.support import chart_docs, charts
from tests.support.charts import Documents, only

pytestmark = pytest.mark.cluster
Render = Callable[..., Documents]

VALUES = chart_docs.values(chart_docs.VALUES.read_text(encoding="utf-8"))
KEYS = sorted(
    {
        ".".join(each.name.split(".")[:depth])
        for each in VALUES
        for depth in range(1, each.name.count(".") + 2)
    }
)
"""Of values and of groups of them."""
EVERYTHING: dict[str, Any] = {
    "global": {
        "imageRegistry": "mirror.example:5000/ocr",
        "imagePullSecrets": ["parent", {"name": "registry"}],
    },
    "imagePullSecrets": [{"name": "registry"}],
    "watchNamespaces": ["invoices", "forms"],
    "countedPods": "watched",
    "prometheus": {"url": "http://prometheus:9090", "tokenSecretName": "reader"},
    "gpuExporter": {"enabled": True},
    "networkPolicy": {"enabled": True},
    "metrics": {
        "tokenSecretName": "scraper",
        "serviceMonitor": {"enabled": True},
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example"}],
}
"""All that is optional; the definitions make up most of the time that Helm takes, and few keys are about them."""


def without(*keys: str) -> dict[str, Any]:
    """Values that take keys away."""
    values: dict[str, Any] = {}
    for key in keys:
        *groups, last = key.split(".")
        functools.reduce(lambda place, group: place.setdefault(group, {}), groups, values)[last] = None
    return values


@pytest.fixture
def render(tmp_path: Path) -> Render:
    return lambda **values: charts.render(tmp_path, values)


def environment(documents: Documents) -> list[dict[str, Any]]:
    [container] = only(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    found: list[dict[str, Any]] = container["env"]
    return found


@pytest.mark.parametrize("key", KEYS)
def test_no_key_is_missed_by_a_template(key: str, tmp_path: Path) -> None:
    everything = tmp_path / "everything.yaml"
    crds = {"enabled": key.startswith(("crds", "unknownTemplateFields"))}
    everything.write_text(yaml.safe_dump(EVERYTHING | {"crds": crds}), encoding="utf-8")
    # Later files win, and what is null there is gone.
    documents = charts.render(tmp_path, without(key), "--values", str(everything))
    assert only(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]


def test_absent_keys_are_their_defaults(render: Render) -> None:
    """As with `--reuse-values` from a chart that didn't have them."""
    plain = [each.name for each in VALUES if not isinstance(each.default, dict | list) or not each.default]
    assert render(**without(*plain)) == render()


def test_null_takes_a_list_or_a_map_away(render: Render) -> None:
    pod = only(render(**without("tolerations", "nodeSelector", "resources")), "Deployment")["spec"][
        "template"
    ]["spec"]
    assert not {"tolerations", "nodeSelector"} & set(pod)
    assert "resources" not in pod["containers"][0]


@pytest.mark.parametrize(
    ("registry", "repository", "image"),
    [
        ("", "ghcr.io/ocr-operator/ocr-operator", "ghcr.io/ocr-operator/ocr-operator"),
        (
            "mirror.example:5000",
            "ghcr.io/ocr-operator/ocr-operator",
            "mirror.example:5000/ocr-operator/ocr-operator",
        ),
        ("mirror.example/team/", "ocr/operator", "mirror.example/team/ocr/operator"),
        ("mirror.example", "localhost/operator", "mirror.example/operator"),
        ("mirror.example", "operator", "mirror.example/operator"),
    ],
)
def test_registry_of_a_parent_chart_stands_in_for_that_of_images(
    render: Render, registry: str, repository: str, image: str
) -> None:
    both = {"repository": repository, "tag": "1"}
    documents = render(
        image=both,
        inferenceImage=both,
        gpuExporter={"enabled": True},
        **{"global": {"imageRegistry": registry}},
    )
    for kind in ("Deployment", "DaemonSet"):
        assert only(documents, kind)["spec"]["template"]["spec"]["containers"][0]["image"] == f"{image}:1"
    assert {"name": "OCR_OPERATOR_INFERENCE_IMAGE", "value": f"{image}:1"} in environment(documents)


def test_pull_secrets_reach_all_pods_once(render: Render) -> None:
    secrets = {
        "global": {"imagePullSecrets": ["parent", {"name": "registry"}]},
        "imagePullSecrets": [{"name": "registry"}],
    }
    documents = render(gpuExporter={"enabled": True}, **secrets)
    for kind in ("Deployment", "DaemonSet"):
        pod = only(documents, kind)["spec"]["template"]["spec"]
        assert pod["imagePullSecrets"] == [{"name": "parent"}, {"name": "registry"}]
    plain = {each["name"]: each["value"] for each in environment(documents) if "value" in each}
    assert Settings.from_env(plain).image_pull_secrets == ("parent", "registry")
    assert not [each for each in environment(render()) if "PULL_SECRETS" in each["name"]]


def test_variable_that_the_chart_sets_too_is_a_persons(render: Render) -> None:
    own = [{"name": "OCR_OPERATOR_LOG_LEVEL", "value": "debug"}, {"name": "POD_NAME", "value": "mine"}]
    found = environment(render(extraEnv=own))
    names = [each["name"] for each in found]
    assert len(names) == len(set(names)), "an API server that applies refuses a name twice"
    assert [each for each in found if each in own] == own


def test_labels_and_annotations_of_pods_are_said_once_and_selected_by(render: Render) -> None:
    documents = render(
        podLabels={"app.kubernetes.io/component": "mine", "app.kubernetes.io/version": "mine", "team": "a"},
        podAnnotations={"kubectl.kubernetes.io/default-container": "mine"},
        metrics={"serviceMonitor": {"enabled": True, "labels": {"app.kubernetes.io/part-of": "mine"}}},
    )
    deployment = only(documents, "Deployment")["spec"]
    meta = deployment["template"]["metadata"]
    assert (meta["labels"]["app.kubernetes.io/version"], meta["labels"]["team"]) == ("mine", "a")
    assert deployment["selector"]["matchLabels"].items() <= meta["labels"].items()
    assert meta["annotations"]["kubectl.kubernetes.io/default-container"] == "mine"
    assert only(documents, "ServiceMonitor")["metadata"]["labels"]["app.kubernetes.io/part-of"] == "mine"


def test_keys_are_said_once(tmp_path: Path) -> None:
    """A parser keeps the last one of two; the API server refuses both."""
    file = tmp_path / "everything.yaml"
    file.write_text(yaml.safe_dump(EVERYTHING), encoding="utf-8")
    twice = {
        "podLabels": {"app.kubernetes.io/name": "x"},
        "podAnnotations": {"kubectl.kubernetes.io/default-container": "x"},
    }
    done = charts.run(tmp_path, "template", "x", str(chart_docs.CHART), "--values", str(file), values=twice)
    assert done.returncode == 0, done.stderr
    for document in yaml.compose_all(done.stdout, yaml.SafeLoader):
        repeated(document)


def repeated(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), keys
        for _, value in node.value:
            repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            repeated(value)


def test_extra_objects_are_maps_or_templates(render: Render) -> None:
    whole = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-a"}}
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ include \"ocr-operator.fullname\" . }}-b'}"
    found = [
        each["metadata"]["name"] for each in render(extraObjects=[whole, text]) if each["kind"] == "ConfigMap"
    ]
    assert found == ["ocr-operator-a", "ocr-operator-b"]


def test_same_release_in_two_namespaces_has_names_of_its_own(tmp_path: Path) -> None:
    def cluster_wide(namespace: str) -> set[str]:
        done = charts.run(
            tmp_path,
            "template",
            "same",
            str(chart_docs.CHART),
            "--namespace",
            namespace,
            values={"crds": {"enabled": False}},
        )
        assert done.returncode == 0, done.stderr
        objects = [each for each in yaml.safe_load_all(done.stdout) if each]
        return {
            f"{each['kind']} {each['metadata']['name']}"
            for each in objects
            if "namespace" not in each["metadata"]
        }

    assert len(cluster_wide("a")) == 10
    assert not cluster_wide("a") & cluster_wide("b")
