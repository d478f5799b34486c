"""Charts over time, on a real API server: from the first version to this one and back, and all in one release."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ocr_wire import names
from tests.support import cluster as support
from tests.support import definitions, pod_schema, resources
from tests.support.operators import Local, run_helm
from tests.support.paths import ROOT
from tests.support.waiting import until

pytestmark = pytest.mark.cluster

CHARTS = ROOT / "charts"
FROZEN = ROOT / "tests" / "frozen" / "v0.1.0"
Helm = Callable[..., str]


@pytest.fixture
def namespace(empty_cluster: support.Place) -> Iterator[str]:
    with empty_cluster.namespace("charts") as name:
        yield name
        definitions.remove(empty_cluster.kubectl)


@pytest.fixture
def helm(empty_cluster: support.Place, namespace: str, tmp_path: Path) -> Iterator[Helm]:
    def call(*arguments: str) -> str:
        return run_helm(empty_cluster, tmp_path, *arguments, f"--namespace={namespace}")

    yield call
    with contextlib.suppress(AssertionError):  # a test that failed may not have got so far
        call("uninstall", "ours")


def stored(place: support.Place, namespace: str) -> dict[str, Any]:
    """Resources and policies by kind and name: what an upgrade must leave alone."""
    found = json.loads(place.kubectl("get", "ocrdeployments,ocridlepolicies", "-n", namespace, "-o", "json"))
    return {
        f"{each['kind']} {each['metadata']['name']}": (
            each["metadata"]["uid"],
            each["metadata"]["generation"],
            each["spec"],
        )
        for each in found["items"]
    }


def defined(place: support.Place) -> list[Any]:
    return [
        json.loads(place.kubectl("get", each, "-o", "json"))["spec"]["versions"]
        for each in definitions.names()
    ]


def owned_roles(place: support.Place) -> set[str]:
    wanted = "--selector=app.kubernetes.io/instance=ours"
    found = json.loads(place.kubectl("get", "clusterroles,clusterrolebindings", wanted, "-o", "json"))
    return {each["metadata"]["name"] for each in found["items"]}


@pytest.mark.parametrize("values", ["--reuse-values", "--reset-then-reuse-values"])
def test_upgrade_from_the_first_chart_keeps_resources_and_brings_definitions(
    empty_cluster: support.Place, namespace: str, helm: Helm, values: str
) -> None:
    place = empty_cluster
    helm(
        "install", "ours", str(FROZEN / "chart"), "--set=logLevel=debug", "--set=resources.limits.memory=1Gi"
    )
    definitions.established(place.kubectl)
    place.kubectl("apply", "-n", namespace, "-f", str(FROZEN / "resources.yaml"))
    before, old_definitions = stored(place, namespace), defined(place)
    assert len(before) == 7

    helm("upgrade", "ours", str(CHARTS / "ocr-operator"), values)
    assert stored(place, namespace) == before, "nothing of a person's was written"
    assert defined(place) != old_definitions
    deployment = json.loads(place.kubectl("get", "deployments", "-n", namespace, "-o", "json"))["items"][0]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "OCR_OPERATOR_LOG_LEVEL", "value": "debug"} in container["env"], "the old release's value"
    assert container["resources"]["limits"]["memory"] == "1Gi"
    assert deployment["spec"]["replicas"] == 2, "a default that the old chart didn't have"
    assert owned_roles(place) == {
        f"ours-ocr-operator{part}.{namespace}" for part in ("", "-editor", "-viewer")
    }

    apply = ("apply", "-n", namespace, "-f", str(FROZEN / "resources.yaml"))
    assert "configured" in place.kubectl(*apply), "lists have what the old definition filled in"
    emptied = stored(place, namespace)
    assert all(0 <= emptied[key][1] - before[key][1] <= 1 for key in before)
    assert place.kubectl(*apply).count("unchanged") == len(before)

    for name in (key.split()[1] for key in before if key.startswith("OcrDeployment")):
        place.kubectl("scale", f"ocrdeployment/{name}", "-n", namespace, "--replicas=3")
        patch = '{"spec":{"idle":{"offloadAfterSeconds":7}}}'
        place.kubectl("patch", f"ocrdeployment/{name}", "-n", namespace, "--type=merge", f"--patch={patch}")
    changed = stored(place, namespace)
    helm("upgrade", "ours", str(CHARTS / "ocr-operator"), values)
    assert stored(place, namespace) == changed

    helm("rollback", "ours", "1")
    assert {key: value[0] for key, value in stored(place, namespace).items()} == {
        key: value[0] for key, value in before.items()
    }
    helm("upgrade", "ours", str(CHARTS / "ocr-operator"))
    assert stored(place, namespace) == changed


def umbrella(folder: Path) -> Path:
    """A parent chart with all of ours, as `helm dependency update` makes it."""
    chart = folder / "umbrella"
    (chart / "charts").mkdir(parents=True)
    parts = ("ocr-operator-crds", "ocr-operator", "ocr-resources")
    for name in parts:
        shutil.copytree(CHARTS / name, chart / "charts" / name)
    dependencies = [{"name": each, "version": "*", "condition": f"{each}.enabled"} for each in parts]
    about = {"apiVersion": "v2", "name": "documents", "version": "1.0.0", "dependencies": dependencies}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about), encoding="utf-8")
    # No node runs anything: the operator is a process beside the cluster, and a resource without replicas is ready.
    spec = {"replicas": 0, "models": [{"name": "pages", "engine": "rapidocr", "gpuMemory": "1Gi"}]}
    values = {
        "global": {"imagePullSecrets": [{"name": "registry"}], "team": "documents"},
        "ocr-operator": {"enabled": True, "replicas": 0, "crds": {"enabled": False}},
        "ocr-resources": {"deployments": {"invoices": {"spec": spec}}},
    }
    (chart / "values.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return chart


def test_definitions_operator_and_resources_are_installed_as_one_release(
    empty_cluster: support.Place, namespace: str, helm: Helm, tmp_path: Path
) -> None:
    place, chart = empty_cluster, str(umbrella(tmp_path))
    operator = Local(place, namespace, tmp_path / "operator.log")
    operator.start()
    try:
        helm("install", "ours", chart, "--wait", "--timeout=120s")
        ready = json.loads(place.kubectl("get", "ocrdeployment/invoices", "-n", namespace, "-o", "json"))
        conditions = {each["type"]: each["status"] for each in ready["status"]["conditions"]}
        assert conditions["Ready"] == "True", "Helm waited for the resource itself"

        # From now on Helm upgrades the definitions, too.
        from_now_on = ("--reuse-values", "--set=ocr-operator.crds.enabled=true")
        helm("upgrade", "ours", chart, *from_now_on, "--take-ownership")
        owner = "jsonpath={.metadata.annotations.meta\\.helm\\.sh/release-name}"
        assert place.kubectl("get", "crd/ocrdeployments.ocr-operator.io", "-o", owner) == "ours"
        helm("upgrade", "ours", chart, "--reuse-values", "--wait", "--timeout=120s")
        assert stored(place, namespace)["OcrDeployment invoices"][0] == ready["metadata"]["uid"]

        helm("uninstall", "ours")
        until(lambda: not stored(place, namespace), what="the resource goes with its release")
        assert place.kubectl("get", *definitions.names(), "-o", "name").count("customresourcedefinition") == 2
        owning = ("--set=ocr-operator.crds.enabled=true", "--take-ownership")
        helm("install", "ours", chart, *owning, "--wait", "--timeout=120s")
    finally:
        operator.close()


def invoices(namespace: str, *, name: str = "invoices", **spec: Any) -> dict[str, Any]:
    body = resources.make_body(name, gpu={"sharing": "none"}, **spec)
    body["metadata"] = {"name": name, "namespace": namespace}
    return body


def revision(place: support.Place, namespace: str, offload: int) -> int:
    """The revision of the live settings in the status of `invoices`; 0 while they don't say so many seconds."""
    found = json.loads(place.kubectl("get", "ocrdeployment/invoices", "-n", namespace, "-o", "json"))
    live = found.get("status", {}).get("liveSettings", {})
    values = {each["field"]: each["value"] for each in live.get("sources", ())}
    return int(live["revision"]) if values.get("idle.offloadAfterSeconds") == str(offload) else 0


def test_operator_of_today_works_with_the_first_definitions(
    empty_cluster: support.Place, namespace: str, tmp_path: Path
) -> None:
    """`helm upgrade` leaves them as they are without `crds.enabled`: fields that they lack can't be written."""
    place = empty_cluster
    place.kubectl("apply", "--server-side", "-f", str(FROZEN / "chart" / "files"))
    definitions.established(place.kubectl)
    operator = Local(place, namespace, tmp_path / "operator.log")
    operator.start()

    try:
        body = invoices(namespace, idle={"offloadAfterSeconds": 5})
        place.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        first = until(lambda: revision(place, namespace, 5), what="the status has the first revision")
        body["spec"]["idle"] = {"offloadAfterSeconds": 7}
        place.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        until(lambda: revision(place, namespace, 7) > first, what="the status has a newer one")
    finally:
        operator.close()


def of_tomorrow(schema: dict[str, Any]) -> dict[str, Any]:
    """What a newer version may make of a schema: a field more in each object, which the API server fills in."""
    changed = {**schema}
    if "properties" in schema and pod_schema.OPEN not in schema:
        parts = {name: of_tomorrow(part) for name, part in schema["properties"].items()}
        changed["properties"] = {**parts, "fromTomorrow": {"type": "string", "default": "filled in"}}
    if isinstance(schema.get("items"), dict):
        changed["items"] = of_tomorrow(schema["items"])
    return changed


def test_operator_of_today_works_with_definitions_of_a_newer_version(
    empty_cluster: support.Place, namespace: str, tmp_path: Path
) -> None:
    """Fields that it doesn't know have no effect, a word that it doesn't know concerns its own resource alone."""
    place = empty_cluster
    for definition in definitions.read():
        [version] = definition["spec"]["versions"]
        parts = version["schema"]["openAPIV3Schema"]["properties"]
        parts |= {part: of_tomorrow(parts[part]) for part in ("spec", "status")}
        if definition["spec"]["names"]["kind"] == names.KIND:
            parts["spec"]["properties"]["models"]["items"]["properties"]["engine"]["enum"].append("tomorrow")
        place.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(definition))
    definitions.established(place.kubectl)
    operator = Local(place, namespace, tmp_path / "operator.log")
    operator.start()

    def child() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            place.kubectl("get", "deployment/invoices", "-n", namespace, "-o", "json")
        )
        return found

    try:
        body = invoices(namespace, idle={"offloadAfterSeconds": 5, "fromTomorrow": "a"}, fromTomorrow="a")
        place.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        first = until(lambda: revision(place, namespace, 5), what="the status has the first revision")
        before = child()
        body["spec"] |= {"idle": {"offloadAfterSeconds": 7, "fromTomorrow": "b"}, "fromTomorrow": "b"}
        body["spec"]["models"][0]["fromTomorrow"] = "b"
        place.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        until(lambda: revision(place, namespace, 7) > first, what="the status has a newer one")
        assert child()["metadata"]["generation"] == before["metadata"]["generation"], "no pod is replaced"
        spec = json.loads(place.kubectl("get", "ocr/invoices", "-n", namespace, "-o", "json"))["spec"]
        assert spec["models"][0]["fromTomorrow"] == "b", "and the field stays"

        odd = invoices(namespace, name="odd", models=[{"name": "m", "engine": "tomorrow"}])
        place.kubectl("apply", "-f", "-", stdin=json.dumps(odd))
        place.kubectl("wait", "ocr/odd", "-n", namespace, "--for=condition=Stalled", "--timeout=60s")
        second = revision(place, namespace, 7)
        body["spec"]["idle"] = {"offloadAfterSeconds": 9}
        place.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        until(lambda: revision(place, namespace, 9) > second, what="the other one goes on")
    finally:
        operator.close()


def test_parts_of_a_parent_chart_can_be_switched_off(helm: Helm, tmp_path: Path) -> None:
    chart = str(umbrella(tmp_path))
    off = ("--set=ocr-operator.enabled=false", "--set=ocr-resources.deployments.invoices=null")
    documents = [each for each in yaml.safe_load_all(helm("template", "ours", chart, *off)) if each]
    assert documents == []
