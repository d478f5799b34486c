"""The policies that bound the operator's own account: all that it does passes them, and what a thief of its token would
do is refused.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from devcluster.supervisor.helm import CHART
from ocr_wire import names
from tests.support import account, apiserver, dra
from tests.support import cluster as support
from tests.support.operators import Local, Operator, run_helm
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

RELEASE = "rights"
LABEL = {"metadata": {"labels": {"a": "b"}}}
CONTAINER = {"name": "app", "image": "app:1"}
APP = {"matchLabels": {"app": "foreign"}}
GATED = {"schedulingGates": [{"name": "example.com/never"}]}
TEMPLATE = {"metadata": {"labels": {"app": "foreign"}}, "spec": {"containers": [CONTAINER], **GATED}}


def foreign(version: str, kind: str, **parts: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "foreign"}, **parts}


def lease(name: str) -> dict[str, Any]:
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": {}}


FOREIGN = [
    foreign("v1", "Secret", stringData={"a": "b"}),
    foreign("v1", "Pod", spec={"containers": [CONTAINER], **GATED}),
    foreign("v1", "Service", spec={"selector": {"app": "foreign"}, "ports": [{"port": 80}]}),
    foreign("apps/v1", "Deployment", spec={"selector": APP, "template": TEMPLATE}),
    foreign("policy/v1", "PodDisruptionBudget", spec={"selector": APP, "maxUnavailable": 1}),
]
"""Of others in the operator's namespace; nothing of it runs."""


@dataclass
class Scene:
    """An operator with the token of the chart's account, and a thief with the same one."""

    ours: Operator
    process: Local
    thief: Path
    """A kubeconfig."""

    def path(self, plural: str, name: str = "", group: str = "") -> str:
        root = f"/apis/{group}" if group else "/api/v1"
        return f"{root}/namespaces/{self.ours.namespace}/{plural}{'/' if name else ''}{name}"

    def tries(self, method: str, path: str, body: object = None, kind: str = "merge-patch+json") -> str:
        """What the API server says to the thief; empty where it would do it. Nothing is written."""
        media = "json" if method == "POST" else kind
        try:
            apiserver.request(
                self.thief,
                method,
                f"{path}{'&' if '?' in path else '?'}dryRun=All",
                body,
                f"application/{media}",
            )
        except apiserver.Refused as error:
            return error.message
        return ""

    def applies(self, path: str, manifest: object) -> str:
        """By server-side apply, under the operator's own name."""
        return self.tries(
            "PATCH", f"{path}?fieldManager={names.OPERATOR_MANAGER}&force=true", manifest, "apply-patch+yaml"
        )

    def probes(self) -> Iterator[str]:
        """A write for each of the policies that must be refused."""
        yield self.tries("PATCH", self.path("secrets", "foreign"), LABEL)
        yield self.tries("PATCH", self.path("pods", "foreign"), LABEL)
        yield self.tries("POST", self.path("leases", "", "coordination.k8s.io/v1"), lease("foreign"))

    def read(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ours.place.ask(path)
        return found


def refused(answer: str) -> bool:
    return f"ValidatingAdmissionPolicy '{RELEASE}-" in answer and "denied request" in answer


@pytest.fixture(scope="module")
def scene(cluster: support.Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    if cluster.operator is not None:
        pytest.skip(f"the operator {cluster.operator} watches all namespaces of this cluster")
    folder = tmp_path_factory.mktemp("rights")
    with ExitStack() as stack:
        namespace = stack.enter_context(cluster.namespace("rights"))
        install = (
            *(
                "install",
                RELEASE,
                str(CHART),
                f"--namespace={namespace}",
                f"--set=watchNamespaces={{{namespace}}}",
            ),
            *("--set=replicas=0", "--set=crds.enabled=false", f"--set=fullnameOverride={RELEASE}"),
            "--set=rbac.aggregateToDefaultRoles=false",
        )
        run_helm(cluster, folder, *install)
        stack.callback(run_helm, cluster, folder, "uninstall", RELEASE, f"--namespace={namespace}")
        theirs = account.of(cluster, RELEASE, namespace, folder)
        process = Local(
            theirs,
            namespace,
            folder / "operator.log",
            identity=f"{namespace}/{RELEASE}",
            lease=f"{namespace}/{RELEASE}-leader",
            pod_name="first",
            resync_seconds="5",
        )
        stack.callback(process.close)
        found = Scene(Operator(cluster, namespace, process), process, theirs.kubeconfig)
        found.ours.kubectl(
            "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": FOREIGN})
        )
        until(lambda: all(map(refused, found.probes())), what="the policies count")
        found.ours.start()
        yield found


def test_all_that_the_operator_does_passes(scene: Scene) -> None:
    """From a new resource to its end: each kind of write that the operator makes (its role has the list)."""
    ours = scene.ours
    with dra.published(ours.place):
        ours.apply("claiming", replicas=1, gpu={"sharing": "claim"})
        ours.apply("whole", replicas=1, gpu={"sharing": "exclusive"})
        until(lambda: bound(ours, "claiming") and bound(ours, "whole"), 120, what="claims and whole devices")
        ours.kubectl("delete", "ocr", "claiming", "whole")
    ours.apply(replicas=2)
    until(lambda: ours.holds("Ready") and ours.holds("ConfigApplied"), 120, what="pods serve")
    assert "invoices-ocr" in ours.kubectl("get", "poddisruptionbudgets", "-o", "name")

    ours.apply(replicas=2, idle={"offloadAfterSeconds": 7})
    until(lambda: ours.holds("ConfigApplied"), what="a live change counts")
    soon = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    override = json.dumps({"values": {"idle": {"offloadAfterSeconds": 30}}, "until": soon})
    ours.kubectl("annotate", "ocr", "invoices", f"{names.ANNOTATION_LIVE_OVERRIDE}={override}")
    until(
        lambda: names.ANNOTATION_LIVE_OVERRIDE not in ours.resource()["metadata"].get("annotations", {}),
        what="an override that ended is removed",
    )

    ours.kubectl("delete", "secret", "invoices-ocr-admin")
    until(
        lambda: "invoices-ocr-admin" in ours.kubectl("get", "secrets", "-o", "name"),
        what="a Secret is made anew",
    )
    damaged = {"data": {names.ADMIN_KEY: base64.b64encode(b"a b").decode()}}
    ours.kubectl("patch", "secret", "invoices-ocr-admin", f"--patch={json.dumps(damaged)}")
    edit = {"spec": {"selector": {"app": "mine"}}}
    ours.kubectl("patch", "service", "invoices", f"--patch={json.dumps(edit)}")
    until(
        lambda: "app" not in scene.read(scene.path("services", "invoices"))["spec"]["selector"],
        what="an edited child is set back",
    )

    ours.apply(replicas=1, template={"spec": {"terminationGracePeriodSeconds": 3}})
    until(lambda: ours.holds("Ready") and len(ours.pods()) == 1, 120, what="a new template, and fewer pods")
    until(
        lambda: "invoices" not in ours.kubectl("get", "poddisruptionbudgets", "-o", "name"),
        what="one pod has no budget",
    )
    assert "Event" in ours.kubectl(
        "get", "events", "--field-selector=reportingComponent=ocr-operator", "-o", "yaml"
    )

    said = scene.process.log.read_text(encoding="utf-8")
    assert "denied request" not in said
    assert "forbidden" not in said


def test_api_server_finds_no_fault_with_the_types_of_the_rules(scene: Scene) -> None:
    kind = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    name = f"{RELEASE}-{{}}.{scene.ours.namespace}"
    paths = [f"{kind}/{name.format(part)}" for part in ("children", "pods", "others")]
    until(
        lambda: all("observedGeneration" in scene.read(each).get("status", {}) for each in paths),
        what="they are checked",
    )
    for each in paths:
        warned = scene.read(each)["status"].get("typeChecking", {}).get("expressionWarnings")
        assert not warned, warned


def bound(ours: Operator, resource: str) -> bool:
    pods = ours.pods(resource).values()
    return bool(pods) and all(
        each["spec"].get("nodeName")
        and "," not in each["metadata"]["annotations"].get(names.ANNOTATION_GPU_UUIDS, "")
        for each in pods
    )


def thefts(scene: Scene) -> Iterator[tuple[str, str]]:
    """What would do harm, and the answer to it."""
    core, apps, policy = (scene.path, "apps/v1", "policy/v1")
    pod = next(iter(scene.ours.pods()))
    pods, ours = core("pods", pod), core("ocrdeployments", "invoices", names.API_VERSION)
    for plural, group in (
        ("secrets", ""),
        ("services", ""),
        ("deployments", apps),
        ("poddisruptionbudgets", policy),
    ):
        path = core(plural, "foreign", group)
        yield f"label of {plural}", scene.tries("PATCH", path, LABEL)
        if plural != "secrets":  # no rule grants it
            yield f"delete of {plural}", scene.tries("DELETE", path)
        mine = scene.read(path)
        kept = {"apiVersion", "kind", "spec", "type"}
        new = {key: value for key, value in mine.items() if key in kept}
        new["metadata"] = {"name": "new", "namespace": scene.ours.namespace}
        yield f"new one of {plural}", scene.applies(core(plural, "new", group), new)
        claimed = owned(scene, "foreign") | {"name": "foreign", "namespace": scene.ours.namespace}
        yield f"take-over of {plural}", scene.applies(path, new | {"metadata": claimed})
    alien = core("pods", "foreign")
    yield "another pod, deleted", scene.tries("DELETE", alien)
    yield "another pod, annotated", scene.tries("PATCH", alien, own_note())
    yield "another pod, let go", scene.tries("PATCH", alien, {"spec": {"schedulingGates": None}})
    mine = {"metadata": {"labels": {names.LABEL_DEPLOYMENT: "invoices"}}}
    yield "another pod, labelled", scene.tries("PATCH", alien, mine)

    image = {"spec": {"containers": [{"name": names.CONTAINER, "image": "evil:1"}]}}
    yield "image of an own pod", scene.tries("PATCH", pods, image, "strategic-merge-patch+json")
    yield "deadline of an own pod", scene.tries("PATCH", pods, {"spec": {"activeDeadlineSeconds": 1}})
    yield (
        "another resource's pod",
        scene.tries("PATCH", pods, {"metadata": {"labels": {names.LABEL_DEPLOYMENT: "b"}}}),
    )
    yield "label of an own pod", scene.tries("PATCH", pods, LABEL)
    yield "annotation of others", scene.tries("PATCH", pods, {"metadata": {"annotations": {"a": "b"}}})
    yield "no owner", scene.tries("PATCH", pods, {"metadata": {"ownerReferences": None}})
    yield "a finalizer", scene.tries("PATCH", pods, {"metadata": {"finalizers": ["example.com/a"]}})
    yield "address of a pod", scene.tries("PATCH", f"{pods}/status", {"status": {"podIP": "192.0.2.1"}})
    yield "readiness of a pod", scene.tries("PATCH", f"{pods}/status", {"status": {"conditions": None}})
    yield "label by the status", scene.tries("PATCH", f"{pods}/status", LABEL)

    deployment, service = core("deployments", "invoices", apps), core("services", "invoices")
    ungated = {"spec": {"template": {"spec": {"schedulingGates": None}}}}
    yield "a Deployment whose pods don't wait", scene.tries("PATCH", deployment, ungated)
    yield (
        "a Service over other pods",
        scene.tries("PATCH", service, {"spec": {"selector": {names.LABEL_DEPLOYMENT: "b"}}}),
    )
    yield "a Service outside", scene.tries("PATCH", service, {"spec": {"type": "NodePort"}})
    yield "a Service for an address", scene.tries("PATCH", service, {"spec": {"externalIPs": ["192.0.2.1"]}})
    yield "a child without its owner", scene.tries("PATCH", service, {"metadata": {"ownerReferences": None}})

    yield "image of a resource", scene.tries("PATCH", ours, {"spec": {"server": {"image": "evil:1"}}})
    yield "label of a resource", scene.tries("PATCH", ours, LABEL)
    note = {"metadata": {"annotations": {names.ANNOTATION_LIVE_OVERRIDE: "{}"}}}
    yield "an override", scene.tries("PATCH", ours, note)
    yield (
        "a claim",
        scene.tries("POST", core("resourceclaims", "", "resource.k8s.io/v1"), claim("foreign-gpu")),
    )
    yield (
        "a Lease",
        scene.tries("POST", core("leases", "", "coordination.k8s.io/v1"), lease("kube-scheduler")),
    )
    yield "an Event", scene.tries("POST", core("events"), event(scene, "kubelet"))


def owned(scene: Scene, name: str) -> dict[str, Any]:
    """Metadata of a child of resource `name`, if there were one."""
    owner = scene.read(scene.path("ocrdeployments", "invoices", names.API_VERSION))
    reference = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": name,
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    return {"labels": {names.LABEL_DEPLOYMENT: name}, "ownerReferences": [reference]}


def own_note() -> dict[str, Any]:
    return {"metadata": {"annotations": {names.ANNOTATION_ROUTING: "x"}}}


def claim(name: str) -> dict[str, Any]:
    meta = {"name": name}
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": meta, "spec": {}}


def event(scene: Scene, component: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "a"},
        "type": "Normal",
        "reason": "A",
        "message": "a",
        "involvedObject": {"namespace": scene.ours.namespace},
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": "a",
    }


def test_thief_of_the_token_is_refused_what_the_operator_never_does(scene: Scene) -> None:
    scene.ours.apply(replicas=1)
    until(lambda: scene.ours.holds("Ready") and len(scene.ours.pods()) == 1, 120, what="one pod serves")
    found = dict(thefts(scene))
    assert len(found) > 30
    assert {what: answer for what, answer in found.items() if not refused(answer)} == {}
    pod = scene.path("pods", next(iter(scene.ours.pods())))
    assert scene.tries("PATCH", pod, own_note()) == "", "what the operator does isn't refused"
    assert scene.tries("POST", scene.path("events"), event(scene, "ocr-operator")) == ""
    nominated = scene.tries("PATCH", f"{pod}/status", {"status": {"nominatedNodeName": "a"}})
    assert "bound to a node" in nominated, "that is Kubernetes' own word, not the policy's"
