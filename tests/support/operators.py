"""An operator with a namespace of its own on a real cluster: a process from this checkout, or the installed chart."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from devcluster.progress import Progress
from devcluster.supervisor import helm
from devcluster.supervisor.bootstrap import EXPORTER_NAMESPACE
from devcluster.tools.toolbox import Toolbox
from ocr_wire import names
from tests.support import fakepod
from tests.support.cluster import Place
from tests.support.waiting import until

PORT = fakepod.free_port()
"""Of inference servers in tests: on process nodes other programs of this machine may have 8001 on all addresses."""


class Runs(Protocol):
    """An operator that can be started and ended."""

    def start(self) -> None:
        """Start it; returns at once where that is possible."""
        ...

    def end(self, number: signal.Signals) -> int:
        """End it by that signal, and return its exit status."""
        ...

    def close(self) -> None:
        """End it, whatever its state, and print what it has said."""
        ...


class Local:
    """A process on this machine, with the rights of the kubeconfig's user."""

    def __init__(
        self, place: Place, namespaces: str, log: Path, *, pod_name: str = "", **settings: str
    ) -> None:
        self.log = log
        self._environ = os.environ | {
            "KUBECONFIG": str(place.kubeconfig),
            "OCR_OPERATOR_WATCH_NAMESPACES": namespaces,
            "OCR_OPERATOR_EXPORTER_NAMESPACE": EXPORTER_NAMESPACE,
            "OCR_OPERATOR_SCRAPE_SECONDS": "1",
            "OCR_OPERATOR_HOST": "127.0.0.1",
            "OCR_OPERATOR_PORT": "0",
            "POD_NAME": pod_name,
            **{f"OCR_OPERATOR_{name.upper()}": value for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ocr_operator"], env=self._environ, stdout=log, stderr=log
            )

    def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Return its exit status once it has ended."""
        assert self._process is not None
        return self._process.wait(timeout=15)

    def pause(self) -> None:
        """Let it stand still, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        sys.stdout.write(self.log.read_text(errors="replace"))


class Installed:
    """The chart in the namespace that it watches, under a name that no other release has."""

    def __init__(self, place: Place, namespace: str, folder: Path) -> None:
        self._place, self._namespace, self._folder = place, namespace, folder
        self._name = f"ocr-{namespace.rpartition('-')[2]}"
        self._installed = False

    def start(self) -> None:
        if self._installed:
            self._scale(1)
        else:
            self._helm("install", self._name, str(helm.CHART), *self._values(), "--wait", "--timeout=120s")
            self._installed = True

    def end(self, number: signal.Signals) -> int:
        if number is signal.SIGKILL:  # the next pod must not start meanwhile
            self._scale(0, "--timeout=1s")
            self._kubectl("delete", "pods", f"--selector={self._selector}", "--force", "--grace-period=0")
        else:
            self._scale(0)
            until(lambda: not self._pods(), what="the operator's pod ends")
        return 0

    def close(self) -> None:
        if not self._installed:
            return
        with contextlib.suppress(Exception):  # it is said to help, and may be gone
            sys.stdout.write(self._kubectl("logs", f"deployment/{self._name}", "--tail=200"))
        self._helm("uninstall", self._name)

    @property
    def _selector(self) -> str:
        return f"app.kubernetes.io/instance={self._name}"

    def _values(self) -> Iterator[str]:
        place = self._place
        values = {
            "fullnameOverride": self._name,
            "watchNamespaces": f"{{{self._namespace}}}",
            "crds.enabled": "false",
            "rbac.aggregateToDefaultRoles": "false",
            "extraEnv[0].name": "OCR_OPERATOR_SCRAPE_SECONDS",
        }
        if place.kubectl("get", "namespace", EXPORTER_NAMESPACE, "--ignore-not-found"):
            values["exporterNamespace"] = EXPORTER_NAMESPACE
        for key, image in zip(("image", "inferenceImage"), place.images or (), strict=False):
            values |= {f"{key}.{part}": value for part, value in image_values(image).items()}
        for name, value in values.items():
            yield f"--set={name}={value}"
        yield "--set-string=extraEnv[0].value=1"

    def _scale(self, replicas: int, *arguments: str) -> None:
        self._kubectl("scale", f"deployment/{self._name}", f"--replicas={replicas}", *arguments)

    def _pods(self) -> list[Any]:
        path = f"/api/v1/namespaces/{self._namespace}/pods?labelSelector={self._selector.replace('=', '%3D')}"
        found: list[Any] = self._place.ask(path)["items"]
        return found

    def _kubectl(self, *arguments: str) -> str:
        return self._place.kubectl("-n", self._namespace, *arguments)

    def _helm(self, *arguments: str) -> str:
        return run_helm(self._place, self._folder, *arguments, f"--namespace={self._namespace}")


def run_helm(place: Place, folder: Path, *arguments: str) -> str:
    """Run Helm with nothing of the user's own configuration, and return its output."""
    program = Toolbox(os.environ, Progress(sys.stderr)).helm()
    done = subprocess.run(
        [str(program), *arguments, f"--kubeconfig={place.kubeconfig}"],
        env=helm.environment(os.environ, folder),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def image_values(image: str) -> Mapping[str, str]:
    """An image as the chart's values name it; a colon before the last slash belongs to the registry's port."""
    name, _, digest = image.partition("@")
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    return {"repository": f"{head}{slash}{last}", "tag": tag, "digest": digest}


class Operator:
    """An operator and the namespace that it watches, with a resource `invoices`, and others if need be."""

    def __init__(self, place: Place, namespace: str, runs: Runs) -> None:
        self.place, self.namespace, self._runs = place, namespace, runs

    def start(self) -> None:
        self._runs.start()

    def end(self, number: signal.Signals) -> int:
        return self._runs.end(number)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self.place.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def apply(self, resource: str = "invoices", **spec: Any) -> None:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": resource},
            "spec": {
                "models": [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "1Gi"}],
                "gpu": {"sharing": "shared" if self.place.images is None else "none"},
                "server": {"port": PORT},
                "template": {"spec": {"terminationGracePeriodSeconds": 2}},
                **spec,
            },
        }
        self.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def resource(self) -> dict[str, Any]:
        path = f"/apis/{names.API_VERSION}/namespaces/{self.namespace}/{names.PLURAL}/invoices"
        found: dict[str, Any] = self.place.ask(path)
        return found

    def holds(self, type_: str, status: str = "True") -> bool:
        body = self.resource()
        return any(
            each["type"] == type_
            and each["status"] == status
            and each["observedGeneration"] == body["metadata"]["generation"]
            for each in body.get("status", {}).get("conditions", [])
        )

    def pods(self, resource: str = "invoices") -> dict[str, dict[str, Any]]:
        """Those of a resource, by name."""
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={names.LABEL_DEPLOYMENT}%3D{resource}"
        return {each["metadata"]["name"]: each for each in self.place.ask(path)["items"]}

    def server(self, pod: dict[str, Any]) -> int:
        """The id of the pod's server process: the parent of the others that bear its UID."""
        mark = f"POD_UID={pod['metadata']['uid']}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found[int(entry.name)] = int(
                            (entry / "stat").read_text().rpartition(")")[2].split()[1]
                        )
                except OSError:
                    continue
        return next(each for each, parent in found.items() if parent not in found)


def alone(place: Place) -> None:
    """Skip the test where an operator watches all namespaces: two would both place pods."""
    if place.operator is not None:
        pytest.skip(f"the operator {place.operator} watches all namespaces of this cluster")


@contextlib.contextmanager
def priority_class(place: Place, name: str) -> Iterator[str]:
    """A PriorityClass above that of pods which name none, while the block lasts; yields its name."""
    body = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}}
    place.kubectl("create", "-f", "-", stdin=json.dumps(body | {"value": 1000}))
    try:
        yield name
    finally:
        place.kubectl("delete", "priorityclass", name, "--wait=false")


@contextlib.contextmanager
def running(place: Place, folder: Path, prefix: str = "operator", **settings: str) -> Iterator[Operator]:
    """An operator at work in a new namespace, of which nothing is left afterwards; settings are for processes only.

    Skips where one watches all namespaces.
    """
    alone(place)
    with place.namespace(prefix) as namespace:
        runs: Runs = (
            Local(place, namespace, folder / "operator.log", **settings)
            if place.images is None
            else Installed(place, namespace, folder)
        )
        ours = Operator(place, namespace, runs)
        try:
            ours.start()
            yield ours
            ours.kubectl("delete", "ocr", "--all", "--wait=false")
            until(lambda: not ours.pods(), what="pods go with their resource")
        finally:
            runs.close()
