"""The chart on a real API server: what admission, RBAC and the definition make of it. Nothing needs to run."""

import contextlib
import functools
import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devcluster.errors import DevclusterError
from devcluster.supervisor.helm import CHART
from ocr_operator.decide.ownership import LEASE_NAME
from tests.support import cluster as support
from tests.support import definitions, resources
from tests.support.operators import Local, Operator, run_helm
from tests.support.waiting import until

pytestmark = pytest.mark.cluster

RESTRICTED = {"enforce": "restricted", "enforce-version": "latest"}
Helm = Callable[..., str]


class Bare:
    """A cluster without anything of ours, the release's namespace, and two others. The release owns the definitions."""

    def __init__(self, place: support.Place, release: str, invoices: str, elsewhere: str) -> None:
        self.place = place
        self.release, self.invoices, self.elsewhere = release, invoices, elsewhere
        self.operator = f"system:serviceaccount:{release}:ocr-operator"
        self.kubectl = place.kubectl

    def may(self, who: str, verb: str, resource: str, namespace: str = "") -> bool:
        """The answer of `kubectl auth can-i`, by default in the namespace of invoices."""
        kind, _, part = resource.partition("/")
        kind = kind.replace(":", "/")  # kubectl has a name there
        where = (f"--subresource={part}", f"--as={who}", f"--namespace={namespace or self.invoices}")
        try:
            answer = self.kubectl("auth", "can-i", verb, kind, *where)
        except DevclusterError:  # "no" is an exit status too
            return False
        return answer.strip() == "yes"


@pytest.fixture(scope="module")
def bare(empty_cluster: support.Place) -> Iterator[Bare]:
    level = {f"pod-security.kubernetes.io/{key}": value for key, value in RESTRICTED.items()}
    with contextlib.ExitStack() as stack:
        release = stack.enter_context(empty_cluster.namespace("ocr-system", **level))
        others = [stack.enter_context(empty_cluster.namespace(name)) for name in ("invoices", "elsewhere")]
        yield Bare(empty_cluster, release, *others)


@pytest.fixture(scope="module")
def helm(bare: Bare, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    folder = tmp_path_factory.mktemp("helm")
    return functools.partial(_helm, bare, folder)


def _helm(bare: Bare, folder: Path, *arguments: str) -> str:
    return run_helm(bare.place, folder, *arguments, f"--namespace={bare.release}")


@pytest.fixture(scope="module")
def notes(bare: Bare, helm: Helm) -> Iterator[str]:
    """What a person reads after the installation, which this fixture makes."""
    helm("install", "ocr-operator", str(CHART))
    yield helm("get", "notes", "ocr-operator")
    helm("uninstall", "ocr-operator")
    definitions.remove(bare.kubectl)


def test_operator_that_is_there_before_the_definition_waits_for_it(bare: Bare, tmp_path: Path) -> None:
    operator = Local(bare.place, bare.invoices, tmp_path / "operator.log")
    early = Operator(bare.place, bare.invoices, operator)
    early.start()
    try:
        until(
            lambda: "waiting for the definition" in operator.log.read_text(), what="it says what it waits for"
        )
        definitions.apply(bare.kubectl)
        early.apply(replicas=1)
        until(lambda: early.resource().get("status", {}).get("observedGeneration") == 1, what="it serves")
        assert early.end(signal.SIGTERM) == 0
    finally:
        operator.close()
        definitions.remove(bare.kubectl)


def test_restricted_namespace_admits_the_operator(bare: Bare, notes: str) -> None:
    def pods() -> bool:
        return bool(json.loads(bare.kubectl("get", "pods", "-n", bare.release, "-o", "json"))["items"])

    until(pods)
    warnings = bare.kubectl(
        "get", "events", "-n", bare.release, "--field-selector=type=Warning,reason=FailedCreate"
    )
    assert "forbidden" not in warnings


def test_example_of_the_notes_is_a_valid_resource(bare: Bare, notes: str) -> None:
    [example] = re.findall(r"<<'EOF'\n(.*?)\nEOF\n", notes, flags=re.DOTALL)
    definitions.established(bare.kubectl)
    created = json.loads(bare.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=example))
    assert created["spec"]["replicas"] == 1, "the definition's defaults are there"


def test_field_that_no_pod_has_is_told_to_who_applies_it(bare: Bare, notes: str) -> None:
    spec = {
        "nodeSelektor": {"a": "b"},
        "affinity": {"nodeAfinity": {}, "podAffinity": None},
        "tolerations": [{"key": "a", "efect": "NoSchedule"}],
        "containers": [
            {"name": "app", "image": "app:1", "env": [{"name": "A", "valeu": "1"}], "comand": ["a"]}
        ],
    }
    unknown = "nodeSelektor, affinity.nodeAfinity, containers[].comand, containers[].env[].valeu, tolerations[].efect"

    def applied(**template: object) -> str:
        body = {**resources.make_body("typo", template={"spec": template}), "metadata": {"name": "typo"}}
        command = ("apply", "--dry-run=server", "--warnings-as-errors", "-n", bare.invoices, "-f", "-")
        try:
            return bare.kubectl(*command, stdin=json.dumps(body))
        except DevclusterError as error:
            return str(error)

    definitions.established(bare.kubectl)
    until(lambda: f"known to this version of ocr-operator: {unknown}. " in applied(**spec), what="it is told")
    assert "created" in applied(nodeSelector={"a": "b"}, containers=[{"name": "app", "env": [{"name": "A"}]}])
    assert "created" in applied()


@pytest.mark.parametrize(
    ("verb", "resource", "answer"),
    [
        ("watch", "ocrdeployments.ocr-operator.io", True),
        ("patch", "ocrdeployments.ocr-operator.io/status", True),
        ("patch", "ocrdeployments.ocr-operator.io", True),
        ("create", "ocrdeployments.ocr-operator.io", False),
        ("patch", "pods/status", True),
        ("get", "persistentvolumes", True),
        ("list", "persistentvolumeclaims", False),
        ("create", "deployments.apps", True),
        ("create", "secrets", True),
        ("list", "events", True),
        ("watch", "events", False),
        ("list", "secrets", False),
        ("delete", "secrets", False),
        ("patch", "nodes", False),
        ("create", "pods/exec", False),
        ("create", "rolebindings.rbac.authorization.k8s.io", False),
        ("list", "customresourcedefinitions.apiextensions.k8s.io", False),
    ],
)
def test_operator_may(bare: Bare, notes: str, verb: str, resource: str, answer: bool) -> None:
    assert bare.may(bare.operator, verb, resource) is answer


def test_who_may_view_or_edit_a_namespace_may_view_or_edit_its_resources(bare: Bare, notes: str) -> None:
    for role in ("view", "edit"):
        bare.kubectl(
            "create",
            "rolebinding",
            role,
            f"--clusterrole={role}",
            f"--user={role}",
            f"--namespace={bare.invoices}",
        )
    kind = "ocrdeployments.ocr-operator.io"
    until(lambda: bare.may("view", "get", kind))  # roles are aggregated by a controller
    until(lambda: bare.may("edit", "patch", kind))
    assert not bare.may("view", "patch", kind)
    assert bare.may("edit", "patch", f"{kind}/scale")
    assert not bare.may("edit", "patch", f"{kind}/status")


def test_watched_namespaces_bound_the_operator(bare: Bare, helm: Helm, notes: str) -> None:
    values = ("--set", f"watchNamespaces={{{bare.invoices}}}")
    helm("upgrade", "ocr-operator", str(CHART), *values)
    until(lambda: not bare.may(bare.operator, "patch", "pods", bare.elsewhere))
    assert bare.may(bare.operator, "list", "pods", bare.elsewhere)
    assert bare.may(bare.operator, "create", "deployments.apps", bare.invoices)
    assert bare.may(bare.operator, "list", "nodes")
    assert not bare.may(bare.operator, "get", "secrets", bare.elsewhere)
    helm("upgrade", "ocr-operator", str(CHART), *values, "--set=countedPods=watched")
    until(lambda: not bare.may(bare.operator, "list", "pods", bare.elsewhere))
    helm("upgrade", "ocr-operator", str(CHART), "--reset-values")
    until(lambda: bare.may(bare.operator, "patch", "pods", bare.elsewhere))


@pytest.mark.parametrize("values", [(), ("--set=watchNamespaces={invoices}",)])
def test_second_release_is_refused_where_another_watches_its_namespaces(
    bare: Bare, helm: Helm, notes: str, values: tuple[str, ...]
) -> None:
    second = (
        "install",
        "second",
        str(CHART),
        "--set=crds.enabled=false",
        "--set=rbac.aggregateToDefaultRoles=false",
    )
    dry = (*second, "--dry-run=server", *values)
    with pytest.raises(
        AssertionError, match=r"ClusterRole ocr-operator.ocr-system-\w+ watches all namespaces already"
    ):
        helm(*dry)
    helm(*dry, "--set=refuseOverlap=false")


def test_second_release_with_namespaces_of_its_own_is_installed(bare: Bare, helm: Helm, notes: str) -> None:
    helm("upgrade", "ocr-operator", str(CHART), f"--set=watchNamespaces={{{bare.invoices}}}")
    second = ("install", "second", str(CHART), "--dry-run=server", "--set=crds.enabled=false")
    own = f"--set=watchNamespaces={{{bare.elsewhere}}}"
    assert "the same GPU memory" not in helm(*second, own)
    assert "may promise the same GPU memory twice" in helm(*second, own, "--set=countedPods=watched")
    with pytest.raises(AssertionError, match=f"watches namespace {bare.invoices} already"):
        helm(*second, f"--set=watchNamespaces={{{bare.elsewhere},{bare.invoices}}}")
    with pytest.raises(AssertionError, match=f"watches namespace {bare.invoices} already"):
        helm(*second)
    helm("upgrade", "ocr-operator", str(CHART), "--reset-values")


def test_operator_may_patch_no_lease_but_the_owners(bare: Bare, notes: str) -> None:
    kind = "leases.coordination.k8s.io"
    assert bare.may(bare.operator, "patch", f"{kind}:{LEASE_NAME}")
    assert not bare.may(bare.operator, "patch", f"{kind}:kube-scheduler")
    assert bare.may(bare.operator, "create", kind)


def test_uninstalling_keeps_resources_and_installing_again_takes_them_up(
    bare: Bare, helm: Helm, notes: str
) -> None:
    [example] = re.findall(r"<<'EOF'\n(.*?)\nEOF\n", notes, flags=re.DOTALL)
    bare.kubectl("apply", "-n", bare.invoices, "-f", "-", stdin=example)
    before = bare.kubectl("get", "ocrdeployment/first", "-n", bare.invoices, "-o", "jsonpath={.metadata.uid}")
    helm("uninstall", "ocr-operator")
    helm("install", "ocr-operator", str(CHART))
    assert (
        bare.kubectl("get", "ocrdeployment/first", "-n", bare.invoices, "-o", "jsonpath={.metadata.uid}")
        == before
    )


def test_definition_applied_by_hand_can_be_taken_over(bare: Bare, helm: Helm, notes: str) -> None:
    helm("uninstall", "ocr-operator")
    definitions.remove(bare.kubectl, "crd/ocrdeployments.ocr-operator.io")
    definitions.apply(bare.kubectl)
    helm("install", "ocr-operator", str(CHART), "--take-ownership")
    owner = "jsonpath={.metadata.annotations.meta\\.helm\\.sh/release-name}"
    assert bare.kubectl("get", "crd/ocrdeployments.ocr-operator.io", "-o", owner) == "ocr-operator"
