"""`kubectl ocr doctor`: what each check says of a cluster, and how it is asked (kubectl is a small program)."""

import asyncio
import importlib.metadata
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kubectl_ocr.cli import Options
from kubectl_ocr.commands import doctor as command
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.objects import reading
from kubectl_ocr.objects.cluster import Definition, Deployment, Lease, Node
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.reading import T
from kubectl_ocr.objects.resource import Resource
from kubectl_ocr.views import doctor
from kubectl_ocr.views.facts import RIGHTS, Facts, Unknown
from ocr_wire import names
from ocr_wire.checked import Invalid
from tests.support import paths
from tests.support.fakekubectl import Fake
from tests.support.resources import crd_schema

NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)
VERSION = importlib.metadata.version("ocr-operator")
"""Whose table the page shows."""
IMAGE = f"registry.example/ocr-inference:{VERSION}"
SHARED = {"sharing": "shared", "runtimeClassName": "nvidia"}


def made(type_: type[T], **body: Any) -> T:
    found = reading.one(json.dumps(body).encode(), type_)
    assert not isinstance(found, Invalid), found
    return found


def definition(plural: str, version: str = VERSION, schema: dict[str, Any] | None = None) -> Definition:
    labels = {"app.kubernetes.io/version": version} if version else {}
    return made(
        Definition,
        metadata={"name": f"{plural}.{names.GROUP}", "labels": labels},
        spec={"versions": [{"name": "v1alpha1", "schema": {"openAPIV3Schema": schema or schema_of(plural)}}]},
    )


@cache
def schema_of(plural: str) -> dict[str, Any]:
    return crd_schema(plural)


OLDER = {"type": "object"}


def operator(
    *,
    ready: int = 2,
    wanted: int = 2,
    watched: str = "",
    name: str = "ocr-operator",
    access: str = "",
    image: str = "",
    token: str = "",
) -> Deployment:
    env = [
        *([{"name": "OCR_OPERATOR_INFERENCE_IMAGE", "value": image}] if image else []),
        *([{"name": doctor.GUARD, "value": token}] if token else []),
        *([{"name": "OCR_OPERATOR_CLUSTER_ACCESS", "value": access}] if access else []),
        {"name": "OCR_OPERATOR_LEASE", "value": f"ocr-system/{name}-leader"},
        *([{"name": "OCR_OPERATOR_WATCH_NAMESPACES", "value": watched}] if watched else []),
    ]
    return made(
        Deployment,
        metadata={"name": name, "namespace": "ocr-system", "labels": {"app.kubernetes.io/version": VERSION}},
        spec={
            "replicas": wanted,
            "template": {"spec": {"containers": [{"name": "ocr-operator", "env": env}]}},
        },
        status={"readyReplicas": ready},
    )


ALONE = operator(watched="default", access="none")


def lease(holder: str, *, renewed: str = "2026-11-25T07:59:55Z") -> Lease:
    return made(
        Lease,
        metadata={"name": "x"},
        spec={"holderIdentity": holder, "leaseDurationSeconds": 60, "renewTime": renewed},
    )


def node(name: str = "gpu-a", gpus: int = 2, usable: int | None = None, *, labelled: bool = True) -> Node:
    labels = {names.LABEL_GPU_PRODUCT: "NVIDIA-L40S", names.LABEL_GPU_MEMORY: "46068"} if labelled else {}
    amounts = {names.RESOURCE_GPU: str(gpus)} if gpus else {}
    allocatable = {names.RESOURCE_GPU: str(gpus if usable is None else usable)} if gpus else {}
    return made(
        Node,
        metadata={"name": name, "labels": labels},
        status={"capacity": amounts, "allocatable": allocatable},
    )


def resource(name: str = "invoices", degraded: tuple[str, str] | None = None, **gpu: Any) -> Resource:
    conditions = (
        []
        if degraded is None
        else [{"type": "Degraded", "status": "True", "reason": degraded[0], "message": degraded[1]}]
    )
    return made(
        Resource,
        metadata={"name": name, "namespace": "default"},
        spec={"gpu": gpu or SHARED},
        status={"conditions": conditions},
    )


def pod(
    name: str = "invoices-1", waiting: str = "", *, message: str = "", image: str = IMAGE, there: bool = True
) -> Pod:
    state = {"waiting": {"reason": waiting, "message": message}} if waiting else {"running": {}}
    return made(
        Pod,
        metadata={"name": name, "labels": {names.LABEL_DEPLOYMENT: "invoices"}},
        spec={"containers": [{"name": names.CONTAINER, "image": image}]},
        status={
            "conditions": [{"type": "Ready", "status": "False" if waiting else "True"}],
            "containerStatuses": [
                {"name": names.CONTAINER, "state": state, "imageID": f"{image}@sha256:1" if there else ""}
            ],
        },
    )


def facts(**change: Any) -> Facts:
    """A cluster in which all is well."""
    good: dict[str, Any] = {
        "namespace": "default",
        "version": VERSION,
        "now": NOW,
        "definitions": [definition(each) for each in (names.PLURAL, names.POLICY_PLURAL)],
        "operators": [operator()],
        "leader": lease("ocr-system/ocr-operator-5d9c-x2x4k"),
        "owner": lease("ocr-system/ocr-operator/ocr-operator-5d9c-x2x4k"),
        "nodes": [node(), node("gpu-b"), node("cpu-a", gpus=0)],
        "runtime_classes": ["nvidia"],
        "resources": [resource()],
        "pods": [pod()],
        "metrics": {"ocr_operator_gpus": 4.0, 'ocr_operator_scrapes_total{result="read"}': 80.0},
    }
    return Facts(**(good | change))


def told(check: str, **change: Any) -> doctor.Check:
    return next(each for each in doctor.report(facts(**change)).checks if each.check == check)


def test_a_cluster_in_which_all_is_well_has_nothing_but_ok() -> None:
    found = doctor.report(facts())
    assert [each.check for each in found.checks if each.level != "ok" or each.way_out] == []
    assert not found.has_problems


SICK: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "definitions",
        {"definitions": [definition(names.PLURAL)]},
        "problem",
        "ocridlepolicies.ocr-operator.io",
    ),
    (
        "definitions",
        {"definitions": [definition(names.PLURAL, schema=OLDER), definition(names.POLICY_PLURAL)]},
        "warning",
        "another schema than this version's: ocrdeployments.ocr-operator.io;",
    ),
    (
        "definitions",
        {"definitions": [definition(names.PLURAL, "", OLDER), definition(names.POLICY_PLURAL, "")]},
        "warning",
        "fields that it doesn't have are dropped",
    ),
    ("operator", {"operators": []}, "problem", "no operator is installed"),
    ("operator", {"operators": [operator(ready=0)]}, "problem", "0 of 2 replicas are ready"),
    ("operator", {"operators": [operator(wanted=0, ready=0)]}, "problem", "is scaled to 0"),
    ("operator", {"operators": [operator(ready=1)]}, "warning", "1 of 2 replicas are ready"),
    (
        "operator",
        {"leader": lease("a", renewed="2026-11-25T07:00:00Z")},
        "problem",
        "no replica holds its Lease",
    ),
    ("operator", {"leader": lease("")}, "problem", "no replica holds its Lease"),
    (
        "namespace",
        {"operators": [operator(watched="team-a,team-b")]},
        "problem",
        "no operator watches namespace",
    ),
    ("namespace", {"owner": None}, "warning", "nobody holds the Lease"),
    (
        "devices",
        {"resources": [resource(sharing="exclusive")], "nodes": [node(gpus=0)]},
        "problem",
        "no node has",
    ),
    (
        "devices",
        {"resources": [resource(sharing="exclusive", resourceName="nvidia.com/gpu.shared")]},
        "problem",
        "invoices (nvidia.com/gpu.shared)",
    ),
    ("devices", {"resources": [], "nodes": []}, "warning", "gpu.sharing: none work"),
    ("devices", {"nodes": [node(usable=1)]}, "warning", "holds some back on gpu-a"),
    ("labels", {"nodes": [node(labelled=False)]}, "warning", "gpu-a"),
    ("runtime class", {"runtime_classes": []}, "problem", "invoices (nvidia)"),
    ("GPU load", {"metrics": {}}, "problem", "no exporter that it believes"),
    ("GPU load", {"metrics": {'ocr_operator_scrapes_total{result="failed"}': 7}}, "problem", "in 7 tries"),
    ("GPU load", {"metrics": {}, "resources": []}, "warning", "no exporter that it believes"),
    ("GPU load", {"metrics": {}, "operators": [ALONE]}, "problem", "refuses gpu.sharing: shared of invoices"),
    (
        "images",
        {"pods": [pod(waiting="ImagePullBackOff")]},
        "problem",
        IMAGE,
    ),
    (
        "pods",
        {"pods": [pod(waiting="CrashLoopBackOff", message="back-off")]},
        "problem",
        "CrashLoopBackOff: back-off",
    ),
    (
        "pods",
        {"resources": [resource(degraded=("EngineMissing", "no torch"))]},
        "problem",
        "EngineMissing: no torch",
    ),
    ("versions", {"version": "9.9.9"}, "warning", f"plugin 9.9.9, operator {VERSION}"),
]


@pytest.mark.parametrize(
    ("check", "change", "level", "words"), SICK, ids=lambda each: each if isinstance(each, str) else ""
)
def test_what_is_wrong_is_named_with_the_way_out(
    check: str, change: dict[str, Any], level: str, words: str
) -> None:
    found = told(check, **change)
    assert (found.level, words in found.message, bool(found.way_out)) == (level, True, True), found


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("devices", {"nodes": [node(gpus=0)], "resources": [resource(sharing="none")]}),
        ("runtime class", {"runtime_classes": [], "resources": [resource(sharing="exclusive")]}),
        (
            "runtime class",
            {"runtime_classes": [], "resources": [resource(sharing="shared", runtimeClassName="")]},
        ),
        ("GPU load", {"metrics": {}, "operators": [ALONE], "resources": [resource(sharing="exclusive")]}),
        ("GPU load", {"metrics": {}, "nodes": [node(gpus=0)], "resources": [resource(sharing="none")]}),
        (
            "definitions",
            {"definitions": [definition(each, "") for each in (names.PLURAL, names.POLICY_PLURAL)]},
        ),
        (
            "definitions",
            {
                "definitions": [
                    definition(each, "9.9.9", OLDER) for each in (names.PLURAL, names.POLICY_PLURAL)
                ]
            },
        ),
        ("namespace", {"owner": None, "resources": []}),
        ("images", {"pods": []}),
        ("operator", {"leader": None}),
    ],
)
def test_what_nothing_here_needs_is_no_problem(check: str, change: dict[str, Any]) -> None:
    assert told(check, **change).level == "ok"


def test_what_cannot_be_read_is_a_warning_and_the_other_checks_are_made() -> None:
    why = Unknown("you (eve) may not list nodes")
    found = told("devices", nodes=None, unknown={"devices": why})
    assert (found.level, found.message) == ("warning", "you (eve) may not list nodes")
    assert found.way_out == RIGHTS


def creating(image: str = IMAGE) -> Pod:
    """A pod whose image its node doesn't have yet."""
    return pod("invoices-2", waiting="ContainerCreating", image=image, there=False)


@pytest.mark.parametrize(
    ("pods", "said"),
    [
        ([pod()], f"pulled: {IMAGE}"),
        ([creating()], f"no node of these pods has {IMAGE} yet"),
        ([pod(waiting="ContainerCreating")], f"pulled: {IMAGE}"),
        ([pod(), creating()], f"pulled: {IMAGE}"),
        ([pod(), creating("x/y")], f"pulled: {IMAGE}; no node of these pods has x/y yet"),
    ],
)
def test_image_counts_as_pulled_where_a_node_has_it(pods: list[Pod], said: str) -> None:
    found = told("images", pods=pods)
    assert (found.level, found.message, found.way_out) == ("ok", said, "")


DEFAULT = f"{doctor.UNPUBLISHED}ocr-inference:{VERSION}"


@pytest.mark.parametrize("pods", [[], [creating(DEFAULT)]])
def test_default_image_that_nobody_has_pulled_yet_is_doubtful(pods: list[Pod]) -> None:
    owner = operator(image=DEFAULT)
    found = told("images", pods=pods, operators=[owner])
    assert (found.level, DEFAULT in found.message) == ("warning", True)
    assert "make push" in found.way_out
    assert told("images", operators=[owner], pods=[pod(image=DEFAULT)]).level == "ok"
    values = (paths.ROOT / "charts" / "ocr-operator" / "values.yaml").read_text(encoding="utf-8")
    assert f"repository: {doctor.UNPUBLISHED}ocr-inference\n" in values


@pytest.mark.parametrize(
    ("change", "hinted"),
    [
        ({"resources": [resource(degraded=("WrongGpu", "got GPU-1 instead of GPU-2"))]}, True),
        ({"resources": [resource(degraded=("CrashLooping", "ends again and again"))]}, True),
        ({"pods": [pod(waiting="CrashLoopBackOff")]}, True),
        ({"pods": [pod(waiting="CreateContainerConfigError")]}, False),
        ({"resources": [resource(degraded=("EngineMissing", "no torch"))]}, False),
        ({"pods": [pod(waiting="CrashLoopBackOff")], "resources": [resource(sharing="exclusive")]}, False),
    ],
)
def test_pod_that_a_runtime_may_have_given_no_gpu_leads_to_the_page(
    change: dict[str, Any], *, hinted: bool
) -> None:
    found = told("pods", **change)
    assert ("docs/gpu-clusters.md#a-shared-pod-without-its-gpu" in found.way_out) is hinted
    assert "\n## A shared pod without its GPU\n" in (paths.DOCS / "gpu-clusters.md").read_text("utf-8")


def test_metrics_that_ask_for_a_token_are_no_matter_of_rights() -> None:
    owner = operator(token="/var/run/metrics/token")
    found = told("GPU load", metrics=None, operators=[owner])
    assert (found.level, "asks for a token" in found.message) == ("warning", True)
    assert "ocr_operator_gpus" in found.way_out
    assert told("GPU load", metrics=None, operators=[owner], nodes=[node(gpus=0)]).level == "ok"
    assert doctor.GUARD in (paths.ROOT / "charts/ocr-operator/templates/_env.tpl").read_text("utf-8")


def test_every_check_has_its_row_on_the_page_and_the_page_shows_the_table() -> None:
    page = (paths.DOCS / "kubectl-plugin.md").read_text()
    section = page.split("\n## doctor\n")[1].split("\n## ")[0]
    assert [name for name in doctor.CHECKS if f"\n| `{name}` | " not in section] == []
    shown = doctor.render(doctor.report(facts(pods=[pod(waiting="ImagePullBackOff", there=False)])))
    assert f"$ kubectl ocr doctor\n{shown}\n```" in section, f"docs/kubectl-plugin.md should show:\n{shown}"


METRICS = """# TYPE ocr_operator_gpus gauge
ocr_operator_gpus 4.0
ocr_operator_scrapes_total{result="read"} 80.0
ocr_operator_odd nothing
process_open_fds 12
"""


def test_metrics_are_read_by_name_and_labels() -> None:
    assert command.parse(METRICS) == {
        "ocr_operator_gpus": 4.0,
        'ocr_operator_scrapes_total{result="read"}': 80.0,
    }


@asynccontextmanager
async def operator_metrics(status: str) -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.0 {status}\r\n\r\n{METRICS}".encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def raw(kind: str, *items: Any) -> dict[str, Any]:
    return {"kind": f"{kind}List", "items": list(items)}


@pytest.fixture
def kubectl(tmp_path: Path) -> Fake:
    """A cluster with an operator and no GPU."""
    fake = Fake(tmp_path)
    fake.answers("config", "team-a")
    definitions = [
        {"metadata": {"name": f"{each}.{names.GROUP}"}} for each in (names.PLURAL, names.POLICY_PLURAL)
    ]
    fake.answers("get customresourcedefinitions", raw("CustomResourceDefinition", *definitions))
    env = [{"name": "OCR_OPERATOR_LEASE", "value": "ocr-system/ocr-operator-leader"}]
    deployment = {
        "metadata": {"name": "ocr-operator", "namespace": "ocr-system"},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "o", "env": env}]}}},
        "status": {"readyReplicas": 1},
    }
    fake.answers("get deployments.apps", raw("Deployment", deployment))
    fake.answers("get nodes", raw("Node", {"metadata": {"name": "a"}}))
    fake.answers("get runtimeclasses.node.k8s.io", raw("RuntimeClass"))
    fake.answers(f"get {names.RESOURCE}", raw("OcrDeployment"))
    ready = {"metadata": {"name": "o-1"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    fake.answers("get pods", raw("Pod", ready))
    fake.answers("get leases", err='Error from server (NotFound): leases "x" not found')
    return fake


async def test_what_is_asked_fits_what_kubectl_says(
    kubectl: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    async with operator_metrics("200 OK") as port:
        kubectl.answers("port-forward", f"Forwarding from 127.0.0.1:{port} -> 8080\n", stays=True)
        await command.doctor(Options(command="doctor", output="json"), kubectl.cluster)
    found = json.loads(capsys.readouterr().out)
    assert found["namespace"] == "team-a"
    assert {each["check"]: each["level"] for each in found["checks"]} == dict.fromkeys(
        doctor.CHECKS, "ok"
    ) | {"devices": "warning"}
    assert "port-forward pod/o-1 :8080 --namespace=ocr-system" in kubectl.calls()


async def test_a_problem_is_the_exit_status_after_the_report(
    kubectl: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.answers("get deployments.apps", raw("Deployment"))
    kubectl.answers(
        "get nodes",
        err='(Forbidden): User "eve" cannot list resource "nodes" in API group "" at the cluster scope',
    )
    with pytest.raises(Failure) as ended:
        await command.doctor(Options(command="doctor"), kubectl.cluster)
    assert (ended.value.status, str(ended.value)) == (Exit.FAILED, "problems: operator, namespace")
    out = capsys.readouterr().out
    assert "no operator is installed in this cluster" in out
    assert "you (eve) may not list nodes" in out


@pytest.mark.parametrize("status", ["503 Service Unavailable", ""])
async def test_metrics_that_cannot_be_read_are_a_warning(
    kubectl: Fake, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with operator_metrics(status) as port:
        kubectl.answers("port-forward", f"Forwarding from 127.0.0.1:{port} -> 8080\n", stays=True)
        await command.doctor(Options(command="doctor", output="json"), kubectl.cluster)
    load = next(each for each in json.loads(capsys.readouterr().out)["checks"] if each["check"] == "GPU load")
    assert (load["level"], "metrics can't be read" in load["message"]) == ("warning", True)
    assert load["wayOut"] == "kubectl logs -n ocr-system deployment/ocr-operator"


async def test_metrics_behind_a_token_are_not_asked_for(kubectl: Fake) -> None:
    env = [{"name": doctor.GUARD, "value": "/t"}]
    deployment = {
        "metadata": {"name": "ocr-operator", "namespace": "ocr-system"},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "o", "env": env}]}}},
        "status": {"readyReplicas": 1},
    }
    kubectl.answers("get deployments.apps", raw("Deployment", deployment))
    await command.doctor(Options(command="doctor"), kubectl.cluster)
    assert not [call for call in kubectl.calls() if "port-forward" in call]


async def test_right_that_is_missing_has_the_rights_as_its_way_out(
    kubectl: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.answers(
        "get nodes",
        err='(Forbidden): User "eve" cannot list resource "nodes" in API group "" at the cluster scope',
    )
    kubectl.answers("get runtimeclasses.node.k8s.io", err="Error from server (InternalError): etcd is slow")
    kubectl.answers("port-forward", err="error: unable to forward")
    await command.doctor(Options(command="doctor", output="json"), kubectl.cluster)
    ways = {each["check"]: each["wayOut"] for each in json.loads(capsys.readouterr().out)["checks"]}
    assert ways["labels"] == RIGHTS
    assert "again" in ways["runtime class"]


async def test_a_cluster_that_cannot_be_reached_has_no_report(kubectl: Fake) -> None:
    kubectl.answers("get nodes", err="The connection to the server 127.0.0.1:6443 was refused")
    with pytest.raises(Failure) as ended:
        await command.doctor(Options(command="doctor"), kubectl.cluster)
    assert ended.value.status is Exit.LATER


async def test_a_cluster_without_the_definitions_has_one_problem_more_and_no_fault(
    kubectl: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.answers("get customresourcedefinitions", raw("CustomResourceDefinition"))
    kubectl.answers("get deployments.apps", raw("Deployment"))
    kubectl.answers(
        f"get {names.RESOURCE}", err='error: the server doesn\'t have a resource type "ocrdeployments"'
    )
    with pytest.raises(Failure, match="problems: definitions, operator, namespace"):
        await command.doctor(Options(command="doctor"), kubectl.cluster)
    assert "not installed: ocrdeployments.ocr-operator.io" in capsys.readouterr().out
