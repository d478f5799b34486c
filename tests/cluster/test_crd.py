"""The definition and the manifests on a real API server: what it refuses, fills in, prints, and finds unchanged."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.errors import DevclusterError
from ocr_operator.decide import manifests, plan
from ocr_operator.resources import policies
from ocr_operator.resources import spec as specs
from ocr_operator.settings import FIELD_MANAGER
from ocr_wire import definitions, names
from tests.support import cluster as support
from tests.support import resources
from tests.support.apiserver import Refused
from tests.support.operators import run_helm
from tests.support.paths import ROOT
from tests.support.waiting import until

pytestmark = pytest.mark.cluster

DEFAULTS = manifests.Defaults(image="ghcr.io/ocr-operator/ocr-inference:0.1.0")


class Api:
    """An API server and a namespace of our own. Its pods must be restricted; they stay at their gate."""

    def __init__(self, place: support.Place, namespace: str) -> None:
        self.place, self.namespace = place, namespace

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self.place.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    @property
    def resources(self) -> str:
        """The path of the namespace's OcrDeployments."""
        return f"/apis/{names.API_VERSION}/namespaces/{self.namespace}/{names.PLURAL}"


@pytest.fixture(scope="module")
def api(control_plane: support.Place) -> Iterator[Api]:
    labels = {f"pod-security.kubernetes.io/{each}": "restricted" for each in ("enforce", "warn")}
    with control_plane.namespace("crd", **labels) as namespace:
        yield Api(control_plane, namespace)


@pytest.fixture
def unwatched(api: Api) -> Api:
    """Where nothing becomes of what is stored but what the test makes of it."""
    if api.place.operator is not None:
        pytest.skip(f"the operator {api.place.operator} watches all namespaces of this cluster")
    return api


def create(api: Api, body: dict[str, Any], *arguments: str) -> dict[str, Any]:
    """Creates a resource in the namespace and returns it as stored; raises with the API server's message."""
    fresh = {**body, "metadata": {"name": body["metadata"]["name"], "namespace": api.namespace}}
    made = api.kubectl("create", "-o", "json", "-f", "-", *arguments, stdin=json.dumps(fresh))
    stored: dict[str, Any] = json.loads(made)
    return stored


def test_half_of_a_character_is_stored_as_a_replacement_character(unwatched: Api) -> None:
    """So text of the API server is Unicode, and can be written again."""
    template = {
        "metadata": {"annotations": {"a.example/b": "x\ud800"}},
        "spec": {"nodeSelector": {"\udfff": "y"}},
    }
    body = resources.make_body("halves", template=template)
    body["metadata"] = {"name": "halves"}

    unwatched.place.ask(unwatched.resources, body)

    stored = unwatched.place.ask(f"{unwatched.resources}/halves")["spec"]["template"]
    assert stored["metadata"]["annotations"] == {"a.example/b": "x\ufffd"}
    assert stored["spec"]["nodeSelector"] == {"\ufffd": "y"}


@pytest.mark.parametrize("case", resources.INVALID, ids=lambda case: case.id)
def test_invalid_resource_is_refused_by_field(api: Api, case: resources.Invalid) -> None:
    name = {"name": case.body["metadata"]["name"]}
    with pytest.raises(Refused) as refusal:
        api.place.ask(f"{api.resources}?dryRun=All", {**case.body, "metadata": name})
    assert refusal.value.status == 422
    assert case.field in refusal.value.message


@pytest.mark.parametrize("plural", [names.PLURAL, names.POLICY_PLURAL])
def test_schema_is_stored_as_it_is_written(api: Api, plural: str) -> None:
    """So its digest tells `kubectl ocr doctor` whether the cluster has another one."""
    stored = json.loads(
        api.kubectl("get", "customresourcedefinition", f"{plural}.{names.GROUP}", "-o", "json")
    )
    [version] = stored["spec"]["versions"]
    assert definitions.digest(version["schema"]["openAPIV3Schema"]) == definitions.DIGESTS[plural]


def test_misspelt_field_is_refused(api: Api) -> None:
    with pytest.raises(DevclusterError, match=r'unknown field "spec\.idle\.offloadAfterSecond"'):
        create(api, resources.make_body(idle={"offloadAfterSecond": 5}), "--dry-run=server")


VALID = sorted((ROOT / "tests" / "golden" / "input").glob("*.yaml")) + sorted(
    (ROOT / "examples").glob("*.yaml")
)


@pytest.mark.parametrize("path", VALID, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_valid_resource_is_stored_with_the_defaults_that_the_operator_knows(api: Api, path: Path) -> None:
    documents = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    for body in [each for each in documents if each["kind"] == names.KIND]:
        stored = specs.parse(create(api, body, "--dry-run=server"))
        body["metadata"] |= {"namespace": api.namespace, "uid": "u", "generation": 1}
        written = specs.parse(body)
        assert isinstance(stored, specs.OcrDeployment), stored
        assert isinstance(written, specs.OcrDeployment), written
        assert stored.spec == written.spec


def test_defaults_are_written_into_the_resource_but_into_no_live_field_and_no_list(api: Api) -> None:
    """So that `kubectl get -o yaml` shows what applies, and a later change of a default changes nothing here. A live
    field that was left out stays left out: it is open for policies. So does what was left out in a list, which
    `kubectl apply` would otherwise find changed each time.
    """
    spec = create(api, resources.make_body(idle={"exitAfterSeconds": 5}), "--dry-run=server")["spec"]
    assert spec["idle"] == {"exitAfterSeconds": 5}
    assert spec["routing"] == {}
    assert "logLevel" not in spec
    assert spec["server"]["limits"].keys() == {"maxUploadBytes", "maxImagePixels", "maxPdfPages"}
    assert "cache" not in spec, (
        "a choice of one is the resource's own: nothing filled in is in the way of another"
    )
    assert spec["models"] == [resources.RAPIDOCR]


def test_explain_tells_fields_and_what_is_live(api: Api) -> None:
    text = " ".join(api.kubectl("explain", "ocr.spec.idle").split())
    assert "LIVE. When idle models give memory back." in text
    assert "0 is as soon as the last request is done, -1 is never" in text
    for field in ("offloadAfterSeconds", "exitAfterSeconds", "releaseAfterSeconds"):
        assert f"{field} <integer> LIVE." in text
    assert "Default: 1800." in text


STATUS = {
    "observedGeneration": 1,
    "phase": "Ready",
    "replicas": 2,
    "readyReplicas": 2,
    "selector": "ocr-operator.io/deployment=columns",
    "locations": {"gpu": 1, "cpu": 2, "unloaded": 3, "unknown": 4},
    "liveSettings": {
        "revision": 7,
        "hash": "0123456789abcdef",
        "sources": [
            {"field": "idle.offloadAfterSeconds", "value": "5", "from": "spec"},
            {"field": "idle.exitAfterSeconds", "value": "300", "from": "default"},
            {"field": "idle.releaseAfterSeconds", "value": "1800", "from": "OcrIdlePolicy/saver"},
        ],
    },
    "pods": [
        {
            "name": "columns-7c9-abc",
            "node": "gpu-a",
            "gpus": [{"uuid": "GPU-1", "product": "NVIDIA-L40S"}],
            "device": "cuda",
            "ready": True,
            "appliedGeneration": 1,
            "models": [
                {"name": "m", "state": "ready", "location": "gpu", "since": "2026-01-01T00:00:00.000Z"}
            ],
            "lastFailure": {
                "reason": "LoadFailed",
                "message": "no",
                "time": "2026-01-01T00:00:00Z",
                "exitCode": -9,
            },
        }
    ],
    "conditions": [
        {
            "type": kind,
            "status": "True",
            "reason": "Standby",
            "message": "",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind in ("Ready", "ConfigApplied")
    ],
}


def set_status(api: Api, what: str, status: dict[str, Any]) -> None:
    api.kubectl("patch", what, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))


def test_resource_that_no_operator_has_looked_at_says_so(unwatched: Api) -> None:
    create(unwatched, resources.make_body("unseen"))
    status = json.loads(unwatched.kubectl("get", "ocr/unseen", "-o", "json"))["status"]
    assert status["observedGeneration"] == -1
    [ready] = status["conditions"]
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "Unknown", "NotSeen")
    assert "does it watch this namespace" in ready["message"]
    assert unwatched.kubectl("get", "ocr", "unseen").splitlines()[1].split()[1:3] == ["Unknown", "NotSeen"]
    idle = {"offloadAfterSeconds": 60}
    policy = {
        **resources.make_policy_body(selector={}, idle=idle),
        "metadata": {"name": f"unseen-{unwatched.namespace}"},
    }
    stored = json.loads(unwatched.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(policy)))
    what = f"ocridle/{stored['metadata']['name']}"
    try:
        status = json.loads(unwatched.kubectl("get", what, "-o", "json"))["status"]
    finally:
        unwatched.kubectl("delete", what)
    assert status["observedGeneration"] == -1
    assert [(each["type"], each["status"]) for each in status["conditions"]] == [("Accepted", "Unknown")]


def test_helm_waits_until_the_operator_has_looked_and_the_replicas_are_ready(
    unwatched: Api, tmp_path: Path
) -> None:
    """Helm 4 waits by kstatus, as Flux does."""
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: waits\nversion: 1.0.0\n")
    body = resources.make_body("waits")
    body["metadata"] = {"name": "waits"}
    (chart / "templates" / "resource.yaml").write_text(yaml.safe_dump(body))

    def helm(command: str, *arguments: str, seconds: int) -> None:
        where = f"--namespace={unwatched.namespace}"
        wait = ("--wait=watcher", f"--timeout={seconds}s")
        run_helm(unwatched.place, tmp_path, command, "waits", str(chart), where, *wait, *arguments)

    with pytest.raises(AssertionError, match=r"waits.*InProgress"):
        helm("install", seconds=3)
    set_status(unwatched, "ocr/waits", STATUS)
    helm("upgrade", seconds=30)
    set_status(unwatched, "ocr/waits", {**STATUS, "observedGeneration": 0})
    with pytest.raises(AssertionError, match=r"waits.*InProgress"):
        helm("upgrade", seconds=3)


def test_status_is_kept_whole_and_printed_in_columns(unwatched: Api) -> None:
    create(unwatched, resources.make_body("columns", idle={"offloadAfterSeconds": 5}))
    patch = json.dumps({"status": STATUS})
    unwatched.kubectl("patch", "ocr/columns", "--subresource=status", "--type=merge", "-p", patch)
    stored = json.loads(unwatched.kubectl("get", "ocr/columns", "-o", "json"))
    assert stored["status"] == STATUS
    header, row = unwatched.kubectl("get", "ocr", "columns").splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "REPLICAS", "GPU", "CPU", "UNLOADED", "AGE"]
    assert row.split()[:-1] == ["columns", "True", "Standby", "2", "1", "2", "3"]
    wide = unwatched.kubectl("get", "ocr", "columns", "-o", "wide").splitlines()
    assert "OFFLOAD AFTER   EXIT AFTER   RELEASE AFTER   REVISION   APPLIED" in wide[0]
    assert wide[1].split()[7:-1] == ["4", "5", "300", "1800", "7", "True"]
    assert "ocrdeployment.ocr-operator.io/columns" in unwatched.kubectl("get", "all")


# --- OcrIdlePolicy ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", resources.INVALID_POLICIES, ids=lambda case: case.id)
def test_invalid_policy_is_refused_by_field(api: Api, case: resources.Invalid) -> None:
    body = {**case.body, "metadata": {"name": case.body["metadata"]["name"]}}
    with pytest.raises(Refused) as refusal:
        api.place.ask(f"/apis/{names.API_VERSION}/{names.POLICY_PLURAL}?dryRun=All", body)
    assert refusal.value.status == 422
    assert case.field in refusal.value.message


def test_policy_is_stored_as_written_and_printed_in_columns(unwatched: Api) -> None:
    example = ROOT / "examples" / "office-hours.yaml"
    own = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": unwatched.namespace}}}
    made = []
    try:
        for written in yaml.safe_load_all(example.read_text(encoding="utf-8")):
            # They have no namespace: under their own names they would count for resources of others.
            name = f"{written['metadata']['name']}-{unwatched.namespace}"
            body = {**written, "metadata": {"name": name}, "spec": {**written["spec"], **own}}
            stored = json.loads(unwatched.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(body)))
            made.append(name)
            assert stored["spec"]["idle"] == written["spec"]["idle"]
            assert "logLevel" not in stored["spec"]
            assert policies.parse(stored).spec == policies.parse(body).spec
        told = {
            "active": True,
            "matched": 3,
            "effective": 2,
            "overridden": 1,
            "nextChange": "2026-11-25T17:00:00Z",
        }
        patch, name = json.dumps({"status": told}), made[-1]
        unwatched.kubectl("patch", f"ocridle/{name}", "--subresource=status", "--type=merge", "-p", patch)
        header, row = unwatched.kubectl("get", "ocridle", name).splitlines()
    finally:
        unwatched.kubectl("delete", "ocridle", *made)
    columns = "NAME ACCEPTED MODE PRIORITY ACTIVE MATCHED EFFECTIVE OVERRIDDEN AGE"
    assert " ".join(header.split()) == columns
    assert row.split()[1:-1] == ["Unknown", "default", "10", "true", "3", "2", "1"]
    text = " ".join(unwatched.kubectl("explain", "ocridle.spec.windows").split())
    assert "IANA name of the time zone, such as Europe/Berlin." in text


def test_scale_changes_replicas_and_shows_the_selector(unwatched: Api) -> None:
    body = resources.make_body("scaled")
    create(unwatched, body)
    status = json.dumps({"status": {"replicas": 1, "selector": "ocr-operator.io/deployment=scaled"}})
    unwatched.kubectl("patch", "ocr/scaled", "--subresource=status", "--type=merge", "-p", status)
    unwatched.kubectl("scale", "ocr/scaled", "--replicas=3")
    scale = json.loads(unwatched.kubectl("get", "ocr/scaled", "--subresource=scale", "-o", "json"))
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == {"replicas": 1, "selector": "ocr-operator.io/deployment=scaled"}
    with pytest.raises(DevclusterError, match=r"spec\.replicas"):
        unwatched.kubectl("scale", "ocr/scaled", "--replicas=501")


def test_autoscaler_finds_the_scale_of_a_resource_and_changes_it(unwatched: Api) -> None:
    """By Kubernetes' own controller; fewer than `minReplicas` need no metrics to be too few."""
    text = (ROOT / "examples" / "hpa.yaml").read_text(encoding="utf-8")
    resource, scaler = yaml.safe_load_all(text)
    assert "replicas" not in resource["spec"], "they are the autoscaler's"
    create(unwatched, resource)
    status = json.dumps({"status": {"replicas": 1, "selector": "ocr-operator.io/deployment=autoscaled"}})
    unwatched.kubectl("patch", "ocr/autoscaled", "--subresource=status", "--type=merge", "-p", status)
    unwatched.kubectl("create", "-f", "-", stdin=json.dumps(scaler))
    until(lambda: unwatched.kubectl("get", "ocr/autoscaled", "-o", "jsonpath={.spec.replicas}") == "2")
    unwatched.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(resource))
    assert unwatched.kubectl("get", "ocr/autoscaled", "-o", "jsonpath={.spec.replicas}") == "2"


# --- manifests ----------------------------------------------------------------------------------------------------


def owned(api: Api, name: str) -> list[dict[str, Any]]:
    label = f"{names.LABEL_DEPLOYMENT}={name}"
    kinds = "secrets,services,deployments"
    found = api.kubectl("get", kinds, "-l", label, "-o", "json", "--show-managed-fields")
    items: list[dict[str, Any]] = json.loads(found)["items"]
    return items


def apply(api: Api, made: plan.Plan) -> None:
    for manifest in made.apply:
        arguments = ("--server-side", f"--field-manager={FIELD_MANAGER}", "--force-conflicts")
        api.kubectl("apply", *arguments, "-f", "-", stdin=json.dumps(manifest))


def desired(stored: dict[str, Any], **spec: Any) -> list[dict[str, Any]]:
    parsed = specs.parse({**stored, "spec": {**stored["spec"], **spec}})
    assert isinstance(parsed, specs.OcrDeployment), parsed
    return manifests.desired(parsed, DEFAULTS, "token")


@pytest.mark.parametrize("case", ["minimal", "laptop", "shared-gpu", "sidecar"])
def test_what_was_applied_is_found_unchanged(unwatched: Api, case: str) -> None:
    path = ROOT / "tests" / "golden" / "input" / f"{case}.yaml"
    stored = create(unwatched, yaml.safe_load(path.read_text(encoding="utf-8")))
    wanted, name = desired(stored), stored["metadata"]["name"]
    apply(unwatched, plan.plan(wanted, owned(unwatched, name)))
    assert plan.plan(wanted, owned(unwatched, name)) == plan.Plan()


def test_drift_is_repaired_and_what_is_no_longer_wanted_goes(unwatched: Api) -> None:
    stored = create(unwatched, resources.make_body("drift"))
    before = desired(stored, template={"spec": {"priorityClassName": "system-node-critical"}})
    apply(unwatched, plan.plan(before, []))
    unwatched.kubectl("set", "image", "deployment/drift", "ocr-inference=evil:1")
    after = desired(stored)
    made = plan.plan(after, owned(unwatched, "drift"))
    assert made.why == (
        (
            "Deployment drift: spec.template.spec.containers[ocr-inference].image is 'evil:1', wanted "
            f"'{DEFAULTS.image}'"
        ),
    )
    apply(unwatched, made)
    assert plan.plan(after, owned(unwatched, "drift")) == plan.Plan()
    deployment = json.loads(unwatched.kubectl("get", "deployment/drift", "-o", "json"))
    assert "priorityClassName" not in deployment["spec"]["template"]["spec"]


def test_what_others_add_is_set_back_or_told(unwatched: Api) -> None:
    """Where a key more changes what is selected, and where it is paused or led away, the child is as wanted again."""
    wanted = desired(create(unwatched, resources.make_body("edited")))
    apply(unwatched, plan.plan(wanted, []))

    def patch(what: str, spec: dict[str, Any]) -> None:
        unwatched.kubectl("patch", what, "--type=merge", "-p", json.dumps({"spec": spec}))

    patch("service/edited", {"selector": {"version": "2"}, "type": "NodePort"})
    unwatched.kubectl("rollout", "pause", "deployment/edited")
    patch("deployment/edited", {"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}})
    made = plan.plan(wanted, owned(unwatched, "edited"))
    assert len(made.apply) == 2, made.why
    apply(unwatched, made)
    assert plan.plan(wanted, owned(unwatched, "edited")) == plan.Plan()
    services = json.loads(unwatched.kubectl("get", "service", "edited", "-o", "json"))
    assert services["spec"]["selector"].keys() == {names.LABEL_DEPLOYMENT, names.LABEL_AWAKE}

    unwatched.kubectl("set", "env", "deployment/edited", "EXTRA=1", "-c", names.CONTAINER)
    unwatched.kubectl("rollout", "restart", "deployment/edited")
    patch("service/edited", {"ipFamilyPolicy": "SingleStack", "sessionAffinity": "ClientIP"})
    affinity, by = "spec.sessionAffinityConfig.clientIP.timeoutSeconds", "(by kubectl-patch)"
    variable = f"spec.template.spec.containers[{names.CONTAINER}].env[EXTRA] (by kubectl-set)"
    edits = (
        f"Service edited has also spec.sessionAffinity {by}, {affinity} {by}",
        f"Deployment edited has also {variable}",
    )
    assert plan.plan(wanted, owned(unwatched, "edited")) == plan.Plan(edits=edits)


def pods(api: Api, name: str) -> list[dict[str, Any]]:
    label = f"{names.LABEL_DEPLOYMENT}={name}"
    path = f"/api/v1/namespaces/{api.namespace}/pods?labelSelector={label.replace('=', '%3D')}"
    items: list[dict[str, Any]] = api.place.ask(path)["items"]
    return items


@pytest.mark.parametrize("sharing", ["none", "exclusive"])
def test_pods_pass_restricted_pod_security_and_wait_at_the_gate(unwatched: Api, sharing: str) -> None:
    name = f"gated-{sharing}"
    stored = create(unwatched, resources.make_body(name, replicas=2, gpu={"sharing": sharing}))
    apply(unwatched, plan.plan(desired(stored), []))
    deadline = time.monotonic() + 60
    while len(found := pods(unwatched, name)) < 2:
        assert time.monotonic() < deadline, unwatched.kubectl("get", "events")
        time.sleep(0.1)
    for pod in found:
        assert pod["spec"]["schedulingGates"] == [{"name": names.GATE}]
        [scheduled] = [each for each in pod["status"]["conditions"] if each["type"] == "PodScheduled"]
        assert scheduled["reason"] == "SchedulingGated"


def test_quota_of_requests_admits_pods_of_a_resource_that_says_nothing_of_them(unwatched: Api) -> None:
    # More than the pods of all tests in this namespace ask for: what is tried is that a pod says what it asks for.
    hard = {"requests.cpu": "1000", "requests.memory": "4Ti"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": hard}}
    unwatched.kubectl("apply", "-f", "-", stdin=json.dumps(quota))
    try:
        # Before it is counted all pods are refused, and a ReplicaSet tries again after ever longer times.
        until(lambda: "4Ti" in unwatched.kubectl("get", "resourcequota/few", "-o", "jsonpath={.status.hard}"))
        apply(unwatched, plan.plan(desired(create(unwatched, resources.make_body("counted"))), []))
        until(lambda: len(pods(unwatched, "counted")) == 1)
    finally:
        unwatched.kubectl("delete", "resourcequota/few")


def test_children_go_with_their_resource(unwatched: Api) -> None:
    stored = create(unwatched, resources.make_body("gone"))
    apply(unwatched, plan.plan(desired(stored), []))
    assert len(owned(unwatched, "gone")) == 4
    unwatched.kubectl("delete", "ocr/gone")
    deadline = time.monotonic() + 60
    while left := owned(unwatched, "gone"):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
