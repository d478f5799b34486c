"""A real node with the chart on it, as tests see it, and what lets a machine have one."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from devcluster.cluster import Cluster
from devcluster.container import host
from devcluster.machine.network import NodeNetwork
from devcluster.progress import Progress
from devcluster.supervisor import helm
from devcluster.tools.toolbox import Toolbox
from ocr_wire import names
from tests.support.paths import ROOT

SECONDS: Final = 300.0
"""For each wait: a page on a busy machine of two cores takes half a minute."""
RELEASE: Final = "ocr-operator"
NAMESPACE: Final = "ocr-system"
CHART: Final = str(ROOT / "charts" / RELEASE)
PAGE: Final = ROOT / "examples" / "invoice.png"


class Node:
    """A cluster with one real node and the chart installed."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.network = NodeNetwork(int(cluster.state.network.split(".")[1]))

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self.cluster.kubectl(*arguments, stdin=stdin)

    def helm(self, *arguments: str) -> str:
        program = Toolbox(os.environ, Progress(sys.stderr)).helm()
        home = self.cluster.directory / "helm"
        done = subprocess.run(
            [program, *arguments, f"--namespace={NAMESPACE}", f"--kubeconfig={self.cluster.kubeconfig}"],
            env=helm.environment(os.environ, home),
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def pods(self, name: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.get("pods", f"--selector={names.LABEL_DEPLOYMENT}={name}")["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def resource(self, name: str, **spec: Any) -> dict[str, Any]:
        """Apply a resource on the CPU, wait until it is ready, and return it."""
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name},
            "spec": {"models": [{"name": "pages", "engine": "rapidocr"}], "gpu": {"sharing": "none"}, **spec},
        }
        self.kubectl("apply", "--filename=-", stdin=json.dumps(manifest))
        return self.ready(name)

    def ready(self, name: str) -> dict[str, Any]:
        def told() -> dict[str, Any] | None:
            found: dict[str, Any] = self.get(names.RESOURCE, name)
            return found if holds(found, "Ready") and holds(found, "ConfigApplied") else None

        return until(told)

    def ask(self, name: str, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, Any]:
        """Ask a resource's Service, at its cluster IP."""
        service = self.get("service", name)["spec"]
        address = f"http://{service['clusterIP']}:{service['ports'][0]['port']}{path}"
        request = urllib.request.Request(address, body, {"Content-Type": kind} if kind else {})
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def read(self, name: str) -> str:
        """Read a page through the Service."""
        status, answer = self.post(name, PAGE)
        assert status == 200, answer
        return str(answer["text"])

    def post(self, name: str, page: Path) -> tuple[int, Any]:
        """Send a page to a resource's Service, and return the answer: status 0 where the connection was lost."""
        head = 'Content-Disposition: form-data; name="file"; filename="page.png"\r\nContent-Type: image/png'
        body = f"--page\r\n{head}\r\n\r\n".encode() + page.read_bytes() + b"\r\n--page--\r\n"
        try:
            return self.ask(name, "/ocr", body, "multipart/form-data; boundary=page")
        except OSError as error:
            return 0, {"error": str(error)}

    def timeout(self, name: str) -> float:
        """Return the idle time that counts in a resource's only pod, by its own words."""
        [model] = self.ask(name, "/v1/state")[1]["models"]
        return float(model["idle"]["offload_after_seconds"])

    def taken(self, pod: Mapping[str, Any], seconds: float = 20.0) -> tuple[int, float]:
        """Return the memory of a pod's processes that no file gives back, in bytes, and the cores that they use."""

        def ticks() -> int:
            stats = (Path(f"/proc/{pid}/stat").read_text() for pid in self.processes(pod))
            return sum(sum(map(int, stat.rpartition(") ")[2].split()[11:13])) for stat in stats)

        before = ticks()
        time.sleep(seconds)
        return self.held(pod), (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds

    def held(self, pod: Mapping[str, Any]) -> int:
        """Return the memory of a pod's container that no file gives back, in bytes: also that of files in memory which
        no process has mapped.
        """
        [text] = [
            found.read_text() for group in self.groups(pod) if (found := group / "memory.stat").is_file()
        ]
        fields = dict(line.split() for line in text.splitlines())
        return int(fields.get("anon", fields.get("rss", 0))) + int(fields["shmem"])

    def processes(self, pod: Mapping[str, Any]) -> list[int]:
        """Return the processes of a pod's only container by this machine's numbers, first its first."""
        groups = self.groups(pod)
        return sorted({int(pid) for group in groups for pid in (group / "cgroup.procs").read_text().split()})

    def groups(self, pod: Mapping[str, Any]) -> list[Path]:
        """Return the cgroups of a pod's only container: one with version 2, one in each hierarchy with version 1."""
        [container] = pod["status"]["containerStatuses"]
        name = container["containerID"].split("//")[1]
        return [found for top in host.groups(self.network.cgroup) for found in top.rglob(name)]

    def killed(self, pod: Mapping[str, Any]) -> int:
        """Return how many processes of a pod's only container the kernel has ended for want of memory."""
        texts = [
            found.read_text()
            for group in self.groups(pod)
            for found in (group / "memory.events", group / "memory.oom_control")
            if found.is_file()
        ]
        return sum(
            int(each) for text in texts for each in re.findall(r"^oom_kill (\d+)$", text, re.MULTILINE)
        )

    @contextlib.contextmanager
    def little_memory(self, pod: Mapping[str, Any], spare: int) -> Iterator[None]:
        """Let a pod's only container have no more than so many bytes beyond what its processes hold now."""
        limits = [
            limit
            for group in self.groups(pod)
            for limit in (group / "memory.max", group / "memory.limit_in_bytes")
            if limit.is_file()
        ]
        [limit] = limits
        before = limit.read_text()
        limit.write_text(str(self.held(pod) + spare))  # what the kernel caches of files goes first
        try:
            yield
        finally:
            if limit.is_file():  # a container that ended took its cgroup with it
                limit.write_text("max" if limit.name == "memory.max" else before)


def holds(found: Mapping[str, Any], condition: str) -> bool:
    """Whether the status is about the newest spec and has the condition."""
    status = found.get("status") or {}
    return status.get("observedGeneration") == found["metadata"]["generation"] and any(
        each["type"] == condition and each["status"] == "True" for each in status.get("conditions", ())
    )


T = TypeVar("T")


def until(probe: Callable[[], T | None]) -> T:
    """Ask until there is an answer."""
    deadline = time.monotonic() + SECONDS
    while True:
        if found := probe():
            return found
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def identity(pod: Mapping[str, Any]) -> tuple[str, int]:
    """A pod's UID, and how often its container was started again."""
    [container] = pod["status"]["containerStatuses"]
    return pod["metadata"]["uid"], container["restartCount"]
