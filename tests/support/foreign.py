"""A cluster that somebody else runs (kind, minikube, a real one), as the place of the tests in `tests/cluster`.

It is used when `OCR_TEST_CLUSTER=kubeconfig` says so, never because `KUBECONFIG` happens to be set. What the tests make
there is theirs: namespaces with random names, and the definitions if the cluster has none. Both are deleted at the end.
"""

import functools
import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from devcluster.services import routing
from devcluster.supervisor.bootstrap import EXPORTER_NAMESPACE, path_of
from devcluster.tools import kubectl
from tests.support import apiserver, definitions

OPT_IN: Final = "OCR_TEST_CLUSTER"
OPERATOR_IMAGE: Final = "OCR_TEST_OPERATOR_IMAGE"
INFERENCE_IMAGE: Final = "OCR_TEST_INFERENCE_IMAGE"


_OPERATORS: Final = "/apis/apps/v1/deployments?labelSelector=app.kubernetes.io/name%3Docr-operator"
_ROLES: Final = (
    "/apis/rbac.authorization.k8s.io/v1/clusterroles?labelSelector=app.kubernetes.io/name%3Docr-operator"
)


def wanted(environ: Mapping[str, str]) -> bool:
    """Return whether the tests shall use the cluster of `KUBECONFIG`; raises UsageError where that can't be meant."""
    match environ.get(OPT_IN, ""):
        case "" | "devcluster":
            return False
        case "kubeconfig" if environ.get("KUBECONFIG"):
            return True
        case "kubeconfig":
            raise pytest.UsageError(f"{OPT_IN}=kubeconfig, but KUBECONFIG isn't set: name the cluster by it")
        case other:
            raise pytest.UsageError(
                f"{OPT_IN} is {other!r}: `kubeconfig` uses the cluster of KUBECONFIG, `devcluster` starts one"
            )


class Foreign:
    """The cluster of the current context. Whatever that becomes meanwhile, the tests stay with this one."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        said = subprocess.run(
            [
                *("kubectl", "config", "view", "--minify", "--flatten", "--raw", "--output=json"),
            ],
            env=kubectl.environment(Path(environ["KUBECONFIG"])),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if said.returncode != 0:
            raise pytest.UsageError(f"KUBECONFIG={environ['KUBECONFIG']}: {said.stderr.strip()}")
        config = json.loads(said.stdout)
        self.context: Final[str] = config["current-context"]
        self.server: Final[str] = config["clusters"][0]["cluster"]["server"]
        self.kubeconfig: Final = folder / "kubeconfig"
        """A copy of the one context, for our user alone."""
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(said.stdout)
        self.images: Final = images(environ)
        self._made: list[str] = []

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl and return its output; a failure raises DevclusterError with what it printed."""
        return kubectl.Kubectl(self.kubeconfig).run(*arguments, stdin=stdin)

    def request(self, method: str, path: str, body: object = None) -> Any:
        return apiserver.request(self.kubeconfig, method, path, body)

    def service(self, name: str, namespace: str) -> str | None:
        """The `address:port` of a Service's first port; None until there is one. Process nodes only."""
        try:
            found = self.request("GET", f"/api/v1/namespaces/{namespace}/services/{name}")
        except apiserver.Refused as error:
            if error.status != 404:
                raise
            return None
        [node, *_] = self._nodes
        [address] = [each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP"]
        network = ".".join(address.split(".")[:2])
        return f"{routing.address(found['spec']['clusterIP'], network)}:{found['spec']['ports'][0]['port']}"

    # What it has

    @functools.cached_property
    def _nodes(self) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = self.request("GET", "/api/v1/nodes")["items"]
        return [each for each in nodes if _ready(each)]

    @property
    def process_nodes(self) -> bool:
        """Pods are processes of this machine, and GPUs are simulated."""
        runtimes = {each["status"]["nodeInfo"]["containerRuntimeVersion"] for each in self._nodes}
        return bool(runtimes) and all(each.startswith("process://") for each in runtimes)

    def operator(self) -> str | None:
        """`namespace/name` of an operator that watches all namespaces."""
        for each in self.request("GET", _OPERATORS)["items"]:
            [container, *_] = each["spec"]["template"]["spec"]["containers"]
            if not any(one["name"] == "OCR_OPERATOR_WATCH_NAMESPACES" for one in container.get("env", ())):
                return f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        return None

    def lacks_simulated_gpus(self, nodes: int, gpus: int) -> str | None:
        """Why tests can't have so many process nodes with so many simulated GPUs each; None when they can."""
        if not self._nodes:
            return "it has no nodes"
        if not self.process_nodes:
            return "its nodes run containers, not processes with simulated GPUs"
        having = [
            each
            for each in self._nodes
            if int(each["status"]["allocatable"].get("nvidia.com/gpu", "0")) >= gpus
        ]
        if len(having) < nodes:
            return f"{len(having)} of its nodes have {gpus} simulated GPUs, {nodes} are needed"
        exporters = self.request("GET", f"/api/v1/namespaces/{EXPORTER_NAMESPACE}/pods")["items"]
        return None if exporters else f"no exporter tells of its GPUs in the namespace {EXPORTER_NAMESPACE}"

    def lacks_pods(self) -> str | None:
        """Why pods of ours don't run here; None when they do."""
        if not self._nodes:
            return "it has no nodes"
        if self.process_nodes or self.images:
            return None
        return f"its nodes run images: name them in {OPERATOR_IMAGE} and {INFERENCE_IMAGE}"

    # Definitions

    def lacks_definitions(self) -> str | None:
        """Have the API server serve our definitions; why not, where it serves others."""
        for definition in definitions.read():
            name = definition["metadata"]["name"]
            found = self._find(path_of(definition))
            if found is None:
                self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(definition))
                self._made.append(f"crd/{name}")
                definitions.established(self.kubectl, f"crd/{name}")
            elif not contains(found["spec"], definition["spec"]):
                return f"its definition {name} isn't the one of crds/: apply that, or take another cluster"
        return None

    def lacks_emptiness(self) -> str | None:
        """Remove the definitions that we made; why they and the chart's objects can't all be absent, where so."""
        self.tidy()
        for definition in definitions.read():
            if self._find(path_of(definition)) is not None:
                return f"it has the definition {definition['metadata']['name']} already"
        if self.request("GET", _ROLES)["items"]:
            return "the chart is installed in it"
        return None

    def tidy(self) -> None:
        """Remove the definitions that we made, and with them all their resources."""
        if self._made:
            definitions.remove(self.kubectl, *self._made)
            self._made.clear()

    def _find(self, path: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.request("GET", path)
        except apiserver.Refused as error:
            if error.status == 404:
                return None
            raise
        return found


def images(environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The operator's image and the inference server's; None when they aren't named."""
    found = environ.get(OPERATOR_IMAGE, ""), environ.get(INFERENCE_IMAGE, "")
    if any(found) and not all(found):
        raise pytest.UsageError(f"set both {OPERATOR_IMAGE} and {INFERENCE_IMAGE}, or none")
    return found if all(found) else None


def contains(found: Any, part: Any) -> bool:
    """Return whether an object has all of `part`; it may have more, such as what the API server fills in."""
    match found, part:
        case dict(), dict():
            return all(key in found and contains(found[key], value) for key, value in part.items())
        case list(), list():
            return len(found) == len(part) and all(map(contains, found, part))
    return bool(found == part)


def _ready(node: Mapping[str, Any]) -> bool:
    conditions: Iterable[Mapping[str, Any]] = node["status"].get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
