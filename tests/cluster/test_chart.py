"""The chart on a real API server: what admission, RBAC and the definition make of it. No nodes: nothing runs."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from devcluster.cluster import Cluster
from devcluster.errors import DevclusterError
from devcluster.progress import Progress
from devcluster.supervisor import helm as devcluster_helm
from devcluster.tools.toolbox import Toolbox
from tests.support import cluster as support
from tests.support.paths import CRDS

pytestmark = pytest.mark.cluster

NAMESPACE = "ocr-system"
Helm = Callable[..., str]

RESTRICTED = f"""
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels: {{pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/enforce-version: latest}}
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane of its own: the release owns the definition, which other tests apply by hand."""
    with support.started(tmp_path_factory.mktemp("chart") / "cluster") as cluster:
        cluster.kubectl("apply", "-f", "-", stdin=RESTRICTED)
        for name in ("invoices", "elsewhere"):
            cluster.kubectl("create", "namespace", name)
        yield cluster


@pytest.fixture(scope="module")
def helm(bare: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    program = Toolbox(os.environ, Progress(sys.stderr)).helm()
    environment = devcluster_helm.environment(os.environ, tmp_path_factory.mktemp("helm"))

    def run(*arguments: str) -> str:
        place = (f"--kubeconfig={bare.kubeconfig}", f"--namespace={NAMESPACE}")
        done = subprocess.run(
            [str(program), *arguments, *place],
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def notes(helm: Helm) -> str:
    """What a person reads after the installation, which this fixture makes."""
    helm("install", "ocr-operator", str(devcluster_helm.CHART))
    return helm("get", "notes", "ocr-operator")


def may(cluster: Cluster, who: str, verb: str, resource: str, namespace: str = "invoices") -> bool:
    kind, _, part = resource.partition("/")
    question = (
        "auth",
        "can-i",
        verb,
        kind,
        f"--subresource={part}",
        f"--as={who}",
        f"--namespace={namespace}",
    )
    try:
        answer = cluster.kubectl(*question)
    except DevclusterError:  # "no" is an exit status too
        return False
    return answer.strip() == "yes"


def until(look: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


OPERATOR = f"system:serviceaccount:{NAMESPACE}:ocr-operator"


def test_restricted_namespace_admits_the_operator(bare: Cluster, notes: str) -> None:
    def pods() -> bool:
        return bool(json.loads(bare.kubectl("get", "pods", "-n", NAMESPACE, "-o", "json"))["items"])

    until(pods)
    warnings = bare.kubectl(
        "get", "events", "-n", NAMESPACE, "--field-selector=type=Warning,reason=FailedCreate"
    )
    assert "forbidden" not in warnings


def test_example_of_the_notes_is_a_valid_resource(bare: Cluster, notes: str) -> None:
    [example] = re.findall(r"<<'EOF'\n(.*?)\nEOF\n", notes, flags=re.DOTALL)
    bare.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/ocrdeployments.ocr-operator.io")
    created = json.loads(bare.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=example))
    assert created["spec"]["replicas"] == 1, "the definition's defaults are there"


@pytest.mark.parametrize(
    ("verb", "resource", "answer"),
    [
        ("watch", "ocrdeployments.ocr-operator.io", True),
        ("patch", "ocrdeployments.ocr-operator.io/status", True),
        ("patch", "ocrdeployments.ocr-operator.io", False),
        ("create", "deployments.apps", True),
        ("create", "secrets", True),
        ("list", "secrets", False),
        ("delete", "secrets", False),
        ("patch", "nodes", False),
        ("create", "pods/exec", False),
        ("create", "rolebindings.rbac.authorization.k8s.io", False),
        ("list", "customresourcedefinitions.apiextensions.k8s.io", False),
    ],
)
def test_operator_may(bare: Cluster, notes: str, verb: str, resource: str, answer: bool) -> None:
    assert may(bare, OPERATOR, verb, resource) is answer


def test_who_may_view_or_edit_a_namespace_may_view_or_edit_its_resources(bare: Cluster, notes: str) -> None:
    for role in ("view", "edit"):
        bare.kubectl(
            "create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}", "--namespace=invoices"
        )
    kind = "ocrdeployments.ocr-operator.io"
    until(lambda: may(bare, "view", "get", kind))  # roles are aggregated by a controller
    until(lambda: may(bare, "edit", "patch", kind))
    assert not may(bare, "view", "patch", kind)
    assert may(bare, "edit", "patch", f"{kind}/scale")
    assert not may(bare, "edit", "patch", f"{kind}/status")


def test_watched_namespaces_bound_the_operator(bare: Cluster, helm: Helm, notes: str) -> None:
    values = ("--set", "watchNamespaces={invoices}")
    helm("upgrade", "ocr-operator", str(devcluster_helm.CHART), *values)
    until(lambda: not may(bare, OPERATOR, "list", "pods", "elsewhere"))
    assert may(bare, OPERATOR, "create", "deployments.apps", "invoices")
    assert may(bare, OPERATOR, "list", "nodes")
    assert not may(bare, OPERATOR, "get", "secrets", "elsewhere")
    helm("upgrade", "ocr-operator", str(devcluster_helm.CHART), "--reset-values")
    until(lambda: may(bare, OPERATOR, "list", "pods", "elsewhere"))


def test_uninstalling_keeps_resources_and_installing_again_takes_them_up(
    bare: Cluster, helm: Helm, notes: str
) -> None:
    [example] = re.findall(r"<<'EOF'\n(.*?)\nEOF\n", notes, flags=re.DOTALL)
    bare.kubectl("apply", "-n", "invoices", "-f", "-", stdin=example)
    before = bare.kubectl("get", "ocrdeployment/first", "-n", "invoices", "-o", "jsonpath={.metadata.uid}")
    helm("uninstall", "ocr-operator")
    helm("install", "ocr-operator", str(devcluster_helm.CHART))
    assert (
        bare.kubectl("get", "ocrdeployment/first", "-n", "invoices", "-o", "jsonpath={.metadata.uid}")
        == before
    )


def test_definition_applied_by_hand_can_be_taken_over(bare: Cluster, helm: Helm, notes: str) -> None:
    helm("uninstall", "ocr-operator")
    bare.kubectl("delete", "crd/ocrdeployments.ocr-operator.io")
    bare.kubectl("apply", "--server-side", "-f", str(CRDS))
    helm("install", "ocr-operator", str(devcluster_helm.CHART), "--take-ownership")
    owner = "jsonpath={.metadata.annotations.meta\\.helm\\.sh/release-name}"
    assert bare.kubectl("get", "crd/ocrdeployments.ocr-operator.io", "-o", owner) == "ocr-operator"
