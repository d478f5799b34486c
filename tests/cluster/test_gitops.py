"""Live changes of a resource that others declare: Helm 4, and what Argo CD and Flux do to a real API server.

docs/gitops.md has a row for each case. The resource has a pod on process nodes, and any pod elsewhere.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.tools.kubectl import environment
from ocr_wire import names
from tests.support import cluster as support
from tests.support.operators import PORT, Operator, run_helm, running
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

OFFLOAD = "idle.offloadAfterSeconds"
TEMPLATE = """\
apiVersion: ocr-operator.io/v1alpha1
kind: OcrDeployment
metadata:
  name: invoices
spec: {{ .Values.spec | toJson }}
"""


@pytest.fixture(scope="module")
def operator(pod_cluster: support.Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with running(pod_cluster, tmp_path_factory.mktemp("gitops"), "gitops") as ours:
        yield ours


def spec(operator: Operator, offload: int, **more: Any) -> dict[str, Any]:
    return {
        "models": [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "1Gi"}],
        "gpu": {"sharing": "shared" if operator.place.images is None else "none"},
        "server": {"port": PORT},
        "template": {"spec": {"terminationGracePeriodSeconds": 2}},
        "idle": {"offloadAfterSeconds": offload},
        **more,
    }


def types(operator: Operator, *words: str) -> str:
    """`kubectl ocr timeout invoices …`: what it prints, standard error after standard output."""
    done = subprocess.run(
        ["kubectl", "ocr", "timeout", "invoices", *words, "-n", operator.namespace],
        env=environment(operator.place.kubeconfig),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def counts(operator: Operator) -> tuple[str, str]:
    """The effective timeout and who set it, once every pod works by it."""
    live = until(
        lambda: operator.holds("ConfigApplied") and operator.resource()["status"]["liveSettings"],
        what="applied",
    )
    return next((each["value"], each["from"]) for each in live["sources"] if each["field"] == OFFLOAD)


def declared(operator: Operator) -> int:
    found: int = operator.resource()["spec"]["idle"]["offloadAfterSeconds"]
    return found


def annotation(operator: Operator) -> str | None:
    found: str | None = (operator.resource()["metadata"].get("annotations") or {}).get(
        names.ANNOTATION_LIVE_OVERRIDE
    )
    return found


def clean(operator: Operator) -> None:
    operator.kubectl("delete", "ocr", "invoices", "--wait=false", "--ignore-not-found")
    until(lambda: not operator.pods(), what="its pods go")


# Helm


@pytest.fixture(params=["--server-side=true", "--server-side=false"])
def helm(request: pytest.FixtureRequest, operator: Operator, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """`helm` with a chart of one resource, installed, and its pod ready. The second way is that of Helm 3."""
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: documents\nversion: 0.1.0\n")
    (chart / "templates" / "invoices.yaml").write_text(TEMPLATE)

    def run(verb: str, *arguments: str, **values: Any) -> str:
        path = tmp_path / "values.json"
        path.write_text(json.dumps({"spec": values}))
        more = (str(chart), f"--values={path}", request.param, *arguments) if verb != "uninstall" else ()
        return run_helm(
            operator.place, tmp_path, verb, "documents", *more, f"--namespace={operator.namespace}"
        )

    run("install", **spec(operator, 300))
    until(lambda: operator.holds("Ready"), what="ready")
    yield run
    run("uninstall")
    until(lambda: not operator.pods(), what="its pods go")


def test_upgrades_go_on_beside_an_override(operator: Operator, helm: Callable[..., str]) -> None:
    pods = set(operator.pods())
    told = types(operator, "30")
    assert "offload after 30 s by an override until it is cleared; 1 pod works by revision 2 " in told
    assert "helm declares this field of the spec" in told
    assert (declared(operator), counts(operator)) == (300, ("30", "override"))

    helm("upgrade", **spec(operator, 300, logLevel="debug"))
    assert operator.resource()["spec"]["logLevel"] == "debug"
    assert counts(operator) == ("30", "override")
    helm("upgrade", **spec(operator, 250))
    assert (declared(operator), counts(operator)) == (250, ("30", "override"))

    assert "no override any more" in types(operator, "--clear")
    assert (annotation(operator), counts(operator)) == (None, ("250", "spec"))
    helm("upgrade", **spec(operator, 240))
    assert counts(operator) == ("240", "spec")

    assert "offload after 20 s by an override until 2" in types(operator, "20", "--for", "8")
    until(lambda: annotation(operator) is None, what="it ends by itself")
    assert counts(operator) == ("240", "spec")
    assert set(operator.pods()) == pods


@pytest.mark.parametrize("helm", ["--server-side=false"], indirect=True)
def test_patch_of_a_declared_field_goes_unseen_by_the_older_way_of_helm(
    operator: Operator, helm: Callable[..., str]
) -> None:
    patch = json.dumps({"spec": {"idle": {"offloadAfterSeconds": 30}}})
    operator.kubectl("patch", "ocr", "invoices", "--type=merge", f"--patch={patch}")
    helm("upgrade", **spec(operator, 300, logLevel="debug"))
    assert declared(operator) == 30
    helm("upgrade", **spec(operator, 290))
    assert declared(operator) == 290


@pytest.mark.parametrize("helm", ["--server-side=true"], indirect=True)
def test_patch_of_a_declared_field_is_a_conflict_for_helm(
    operator: Operator, helm: Callable[..., str]
) -> None:
    """What the override is for."""
    patch = json.dumps({"spec": {"idle": {"offloadAfterSeconds": 30}}})
    operator.kubectl("patch", "ocr", "invoices", "--type=merge", f"--patch={patch}")
    with pytest.raises(AssertionError, match="conflict"):
        helm("upgrade", **spec(operator, 300))
    helm("upgrade", "--force-conflicts", **spec(operator, 300))
    assert declared(operator) == 300


@pytest.mark.parametrize("helm", ["--server-side=true"], indirect=True)
def test_replicas_are_kept_where_the_chart_leaves_them_out(
    operator: Operator, helm: Callable[..., str]
) -> None:
    """Where it sets them, an upgrade after `kubectl scale` conflicts, unless the API server noted no owner."""

    def upgraded(**more: Any) -> int:
        helm("upgrade", **spec(operator, 300, **more))
        return scale()

    def scale(replicas: int | None = None) -> int:
        if replicas is not None:
            operator.kubectl("scale", "ocr/invoices", f"--replicas={replicas}")
        found: int = operator.resource()["spec"]["replicas"]
        return found

    assert (scale(0), upgraded()) == (0, 0)
    assert upgraded(replicas=1) == 1, "without an owner before, none is noted by a scale"
    assert scale(2) == 2
    with pytest.raises(AssertionError, match=r"(?s)conflict.*\.spec\.replicas"):
        upgraded(replicas=1)
    assert upgraded() == 2, "the chart leaves to the other owner what it had declared"
    assert (upgraded(replicas=2), scale(0)) == (2, 0)
    assert upgraded(replicas=2) == 2, "no owner of a zero is noted"


# Argo CD and Flux, by what they ask of the API server


@pytest.fixture
def sync(operator: Operator) -> Iterator[Callable[..., None]]:
    """Server-side apply of what is in Git, as a field manager, with force."""

    def run(manager: str, offload: int) -> None:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "invoices"},
            "spec": spec(operator, offload, replicas=0),
        }
        flags = ("--server-side", "--force-conflicts", f"--field-manager={manager}")
        operator.kubectl("apply", *flags, "-f", "-", stdin=json.dumps(body))

    yield run
    clean(operator)


def undone(operator: Operator, controller: str) -> None:
    """Flux before each apply: fields of managers whose names begin with `kubectl` become the controller's."""
    path = f"/apis/{names.API_VERSION}/namespaces/{operator.namespace}/{names.PLURAL}/invoices"
    entries = operator.place.ask(path)["metadata"]["managedFields"]
    ours = next(each for each in entries if (each["manager"], each["operation"]) == (controller, "Apply"))
    taken = [each for each in entries if each["manager"].startswith("kubectl") and "subresource" not in each]
    for each in taken:
        _merge(ours["fieldsV1"], each["fieldsV1"])
    kept = [each for each in entries if each not in taken]
    patch = json.dumps([{"op": "replace", "path": "/metadata/managedFields", "value": kept}])
    operator.kubectl(
        "patch", "ocr", "invoices", "--type=json", f"--patch={patch}", f"--field-manager={controller}"
    )


def _merge(into: dict[str, Any], fields: dict[str, Any]) -> None:
    for key, value in fields.items():
        _merge(into.setdefault(key, {}), value)


@pytest.mark.parametrize("controller", ["argocd-controller", "kustomize-controller", "helm-controller"])
def test_self_healing_leaves_an_override_and_writes_a_patch_back(
    operator: Operator, sync: Callable[..., None], controller: str
) -> None:
    sync(controller, 300)
    told = types(operator, "30", "--for", "1h")
    assert "no pod is ready, those to come start with it" in told
    assert f"{controller} declares this field" in types(operator, "31", "--exit", "9")
    text = annotation(operator)
    patch = json.dumps({"spec": {"idle": {"offloadAfterSeconds": 77}}})
    operator.kubectl("patch", "ocr", "invoices", "--type=merge", f"--patch={patch}")
    for _ in range(2):
        undone(operator, controller)
        sync(controller, 300)
    assert (annotation(operator), declared(operator)) == (text, 300)
    until(lambda: counts_without_pods(operator) == ("31", "override"), what="the override counts")


def counts_without_pods(operator: Operator) -> tuple[str, str]:
    sources = operator.resource()["status"]["liveSettings"]["sources"]
    return next((each["value"], each["from"]) for each in sources if each["field"] == OFFLOAD)


def test_flux_undoes_an_annotation_under_the_name_of_kubectl(
    operator: Operator, sync: Callable[..., None]
) -> None:
    """Why the plugin has a field manager of its own."""
    sync("kustomize-controller", 300)
    operator.kubectl("annotate", "ocr", "invoices", f'{names.ANNOTATION_LIVE_OVERRIDE}={{"values": {{}}}}')
    undone(operator, "kustomize-controller")
    sync("kustomize-controller", 300)
    assert annotation(operator) is None


def test_apply_of_people_leaves_an_override_and_replace_does_not(operator: Operator) -> None:
    """Argo CD without server-side apply does the same as a person's kubectl, which declares nothing for good."""
    operator.apply(replicas=0, idle={"offloadAfterSeconds": 300})
    types(operator, "30", "--for", "1h")
    text = annotation(operator)
    operator.apply(replicas=0, idle={"offloadAfterSeconds": 299})
    assert (annotation(operator), declared(operator)) == (text, 299)
    assert "kubectl-client-side-apply" not in types(operator, "28")
    assert declared(operator) == 28
    manifest = json.loads(operator.kubectl("get", "ocr", "invoices", "-o", "json"))
    for key in set(manifest["metadata"]) - {"name"}:
        del manifest["metadata"][key]
    del manifest["status"]
    stdin = json.dumps(manifest)
    operator.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=stdin)
    assert annotation(operator) == text
    assert "kubectl declares this field" in types(operator, "27")
    operator.kubectl("replace", "-f", "-", stdin=stdin)
    assert annotation(operator) is None
    clean(operator)


def test_operator_refuses_no_resource_for_a_bad_override(operator: Operator) -> None:
    operator.apply(replicas=0, idle={"offloadAfterSeconds": 300})
    flags = ("annotate", "ocr", "invoices", "--overwrite")
    operator.kubectl(*flags, f'{names.ANNOTATION_LIVE_OVERRIDE}={{"values": {{"idle": 5}}}}')

    def rejected() -> str | None:
        live = operator.resource().get("status", {}).get("liveSettings", {})
        found: str | None = live.get("override", {}).get("rejected")
        return found

    assert until(rejected, what="it is named") == "values.idle: expected `object`, got `int`"
    assert counts_without_pods(operator) == ("300", "spec")
    clean(operator)
