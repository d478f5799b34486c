"""`kubectl ocr` as people type it: real kubectl, real API server, the operator and inference servers of its pods."""

import asyncio
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from devcluster.tools.kubectl import environment
from kubectl_ocr.errors import Exit
from kubectl_ocr.kubectl import Kubectl
from ocr_wire.names import LABEL_DEPLOYMENT
from tests.support import cluster as support
from tests.support.operators import PORT, Installed
from tests.support.paths import ROOT
from tests.support.pdfs import PdfPage, pdf
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


class User:
    """A person with a kubeconfig, in one namespace."""

    def __init__(self, cluster: support.Place, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.environ = environment(cluster.kubeconfig)

    def types(self, *words: str, status: int = 0) -> str:
        """`kubectl ocr …`: what it prints, standard error after standard output."""
        done = subprocess.run(
            ["kubectl", "ocr", *words, "-n", self.namespace],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def apply(self, name: str, **spec: Any) -> None:
        resource = {
            "apiVersion": "ocr-operator.io/v1alpha1",
            "kind": "OcrDeployment",
            "metadata": {"name": name},
            "spec": {
                "models": [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "1Gi"}],
                "gpu": {"sharing": self.sharing},
                "server": {"port": PORT},
                "template": {"spec": {"terminationGracePeriodSeconds": 2}},
                **spec,
            },
        }
        self.cluster.kubectl("-n", self.namespace, "apply", "-f", "-", stdin=json.dumps(resource))

    def pods(self) -> list[str]:
        label = f"--selector={LABEL_DEPLOYMENT}"  # the operator may have its pod here
        told = self.cluster.kubectl("-n", self.namespace, "get", "pods", label, "-o", "name").split()
        return sorted(each.removeprefix("pod/") for each in told)

    def models(self) -> dict[str, str]:
        """Pod → location of its model, by `status -o json`; pods that haven't reported yet are left out."""
        [told] = json.loads(self.types("status", "invoices", "-o", "json"))
        return {pod["name"]: pod["models"][0]["location"] for pod in told["pods"] if pod["models"]}

    @property
    def sharing(self) -> str:
        return "shared" if self.cluster.images is None else "none"


@pytest.fixture(scope="module")
def user(pod_cluster: support.Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """Served by the cluster's own operator, or by the chart that is installed for this namespace alone."""
    with contextlib.ExitStack() as stack:
        namespace = stack.enter_context(pod_cluster.namespace("plugin"))
        ours = User(pod_cluster, namespace)
        ours.apply("invoices", replicas=2)
        if pod_cluster.operator is None:
            chart = Installed(pod_cluster, namespace, tmp_path_factory.mktemp("helm"))
            stack.callback(chart.close)
            chart.start()
        ready = ("--for=condition=Ready", "--timeout=100s")
        pod_cluster.kubectl("-n", namespace, "wait", "ocr/invoices", *ready)
        applied = ("--for=condition=ConfigApplied", "--timeout=60s")
        pod_cluster.kubectl("-n", namespace, "wait", "ocr/invoices", *applied)
        # A pod is ready as soon as the kubelet's probe says so; the operator may read its state a moment later.
        until(lambda: len(ours.models()) == 2, what="both pods' states are in the status")
        yield ours
        pod_cluster.kubectl("-n", namespace, "delete", "ocr", "--all", "--wait=false")
        until(lambda: not ours.pods(), what="pods go with their resource")


@pytest.fixture
def gpus(cluster: support.Place) -> None:
    """For what only pods with GPUs have."""


@pytest.mark.usefixtures("gpus")
def test_doctor_finds_a_cluster_well_and_names_what_a_resource_lacks(user: User) -> None:
    checks = {each["check"]: each for each in json.loads(user.types("doctor", "-o", "json"))["checks"]}
    assert {name for name, each in checks.items() if each["level"] == "problem"} == set()
    assert "owns " + user.namespace in checks["namespace"]["message"]
    assert "works" in checks["operator"]["message"]
    assert re.search(r"reads the load of [1-9]\d* GPU", checks["GPU load"]["message"])
    assert "NVIDIA" in checks["labels"]["message"]
    assert checks["images"]["message"].startswith("pulled: ghcr.io/ocr-operator/ocr-inference:")
    user.apply("letters", replicas=0, gpu={"sharing": "shared", "runtimeClassName": "none-such"})
    try:
        shown = user.types("doctor", status=Exit.FAILED)
    finally:
        user.cluster.kubectl("-n", user.namespace, "delete", "ocr/letters")
    assert "no RuntimeClass of the name in letters (none-such)" in shown
    assert shown.endswith("kubectl ocr: problems: runtime class\n")


@pytest.mark.usefixtures("gpus")
def test_a_pod_whose_image_lacks_the_engine_says_so_and_is_never_ready(user: User) -> None:
    """As with an image that is built without torch: the program of this one finds none, whatever is installed."""
    program = "import sys; sys.modules['torch'] = None; from ocr_inference.__main__ import main; main()"
    without = {"name": "ocr-inference", "command": ["python", "-c", program]}
    user.apply(
        "reports",
        models=[
            {"name": "vlm", "engine": "transformers", "source": {"path": "/nowhere"}, "gpuMemory": "1Gi"}
        ],
        template={"spec": {"terminationGracePeriodSeconds": 2, "containers": [without]}},
    )
    try:
        degraded = (
            "--for=jsonpath={.status.conditions[?(@.type=='Degraded')].reason}=EngineMissing",
            "--timeout=100s",
        )
        user.cluster.kubectl("-n", user.namespace, "wait", "ocr/reports", *degraded)
        [told] = json.loads(user.types("status", "reports", "-o", "json"))
        shown = user.types("doctor", status=Exit.FAILED)
        ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status} {.status.readyReplicas}"
        assert user.cluster.kubectl("-n", user.namespace, "get", "ocr/reports", "-o", ready).strip() in (
            "False 0",
            "False",
        )
    finally:
        user.cluster.kubectl("-n", user.namespace, "delete", "ocr/reports")
    assert any(
        "engine transformers lacks torch: use an image of target cuda" in note for note in told["notes"]
    )
    assert "reports: EngineMissing: reports-" in shown
    assert shown.endswith("kubectl ocr: problems: pods\n")


def runbook_commands() -> list[str]:
    """Commands of kubectl itself in the pages for whoever is on call."""
    pages = [*sorted((ROOT / "docs" / "runbooks").glob("*.md")), ROOT / "docs" / "operations.md"]
    lines = (line for page in pages for line in page.read_text(encoding="utf-8").splitlines())
    found = [line.removeprefix("$ ") for line in lines if re.match(r"\$ kubectl (?!ocr )", line)]
    assert len(found) > 20
    return sorted(set(found))


DRY = frozenset({"patch", "delete", "scale", "label", "annotate", "apply", "create", "drain"})


@pytest.mark.usefixtures("gpus")
def test_commands_of_the_runbooks_are_understood_by_kubectl_and_the_api_server(user: User) -> None:
    """Those that change something as a dry run by the server, the others as they stand."""
    pod, wrong = user.pods()[0], []
    [operator] = user.cluster.kubectl(
        "-n", user.namespace, "get", "deployment", "-l", "app.kubernetes.io/name=ocr-operator", "-o", "name"
    ).split()
    for command in runbook_commands():
        words = shlex.split(command.replace("invoices-59d8b84b99-5ztl9", pod))[1:]
        words = [word.replace("deployment/ocr-operator", operator.replace(".apps", "")) for word in words]
        words = [user.namespace if word == "ocr-system" else word for word in words]
        words = [
            f"{operator.partition('/')[2]}-leader" if word == "ocr-operator-leader" else word
            for word in words
        ]
        verb = next(word for word in words if word not in {"-n", user.namespace})
        if verb in DRY or "restart" in words:
            words.append("--dry-run=server" if verb in DRY else "--dry-run=client")
        if verb == "rollout":
            words = [word for word in words if not word.startswith("--dry-run")]
            words[words.index("restart")] = "status"
        scope = [] if {"-n", "-A"} & set(words) else ["-n", user.namespace]
        done = subprocess.run(
            ["kubectl", *scope, *words],
            env=user.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        gone = verb == "patch" and "schedulingGates" in command  # this pod's gate is open already
        if done.returncode != 0 and not gone:
            wrong.append(f"{command}\n    {done.stderr.strip()}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.usefixtures("gpus")
def test_status_top_and_why_tell_where_everything_is(user: User) -> None:
    first, second = user.pods()
    told = user.types("status")
    assert [
        name for name in ("invoices", first, second, "GPU-", "simulated", "pp-ocr") if name not in told
    ] == []
    assert f"{user.namespace}/invoices" in user.types("status", "-A")
    [resource] = yaml.safe_load(user.types("status", "invoices", "-o", "yaml"))
    assert [pod["appliedGeneration"] for pod in resource["pods"]] == [resource["generation"]] * 2

    gpus = [gpu for node in json.loads(user.types("top", "-o", "json")) for gpu in node["gpus"]]
    assert {tenant["pod"] for gpu in gpus for tenant in gpu["pods"]} == {first, second}
    assert all(gpu["totalBytes"] > gpu["promisedBytes"] >= 2**30 for gpu in gpus)
    assert f"{user.namespace}/{first}" in user.types("top")

    why = user.types("why", first)
    assert "is the least loaded of" in why
    assert "runners-up" in why
    decision = json.loads(user.types("why", first, "-o", "json"))
    assert decision["basis"] in {"metrics", "allocation"}, "exporters may be as young as the cluster"
    asked = [json.loads(user.types("why", pod, "-o", "json"))["requests"] for pod in (first, second)]
    assert sorted(each["awake"] for each in asked) == [False, True]
    # Placed so, or another one joined since, because it was ready first.
    assert all("it was placed while " in each["why"] or "joins" in each["why"] for each in asked), asked
    assert [each["name"] for each in decision["models"]] == ["pp-ocr"]
    assert len(decision["runnersUp"]) >= 1


@pytest.mark.usefixtures("gpus")
def test_models_are_woken_offloaded_and_released(user: User) -> None:
    first, second = user.pods()
    assert user.types("wake", "invoices", "--pod", first).split().count("ready") == 1
    until(lambda: user.models()[first] == "gpu", what="the status says gpu")
    assert user.models()[second] == "unloaded"
    until(lambda: "offload in " in user.types("status"), what="the countdown")
    assert user.types("wake", "invoices", "--model", "pp-ocr").split().count("ready") == 2
    told = json.loads(user.types("offload", "invoices", "-o", "json"))
    assert [(each["pod"], each["location"]) for each in told] == [(first, "cpu"), (second, "cpu")]
    user.types("release", "invoices", "--pod", second)
    until(lambda: user.models() == {first: "cpu", second: "unloaded"}, what="the status follows")


def test_a_timeout_is_proven_applied_and_no_pod_is_replaced(user: User) -> None:
    before = user.pods()
    told = user.types("timeout", "invoices", "2m", "--release", "never")
    assert "offload after 120 s, release never; 2 pods work by generation " in told
    again = json.loads(user.types("timeout", "invoices", "120", "-o", "json"))
    assert (again["changed"], again["pods"]) == (False, 2)
    assert "(pp-ocr): offload at once" in user.types("timeout", "invoices", "0", "--model", "pp-ocr")
    assert "spec.models has its own" in user.types("timeout", "invoices", "90")
    spec = json.loads(user.cluster.kubectl("-n", user.namespace, "get", "ocr", "invoices", "-o", "json"))[
        "spec"
    ]
    assert spec["idle"]["offloadAfterSeconds"] == 90
    assert spec["models"][0]["idle"]["offloadAfterSeconds"] == 0
    assert user.pods() == before
    user.types("timeout", "invoices", "-5", status=Exit.USAGE)


def test_a_watch_draws_what_happens(user: User, tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    with (
        shown.open("wb") as out,
        subprocess.Popen(
            ["kubectl", "ocr", "status", "invoices", "-w", "-n", user.namespace],
            env=user.environ,
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as watching,
    ):
        try:
            until(lambda: "pp-ocr" in shown.read_text(), what="the first drawing")
            drawn = shown.read_text().count("NAME ")
            user.types("timeout", "invoices", "78", "--release", "never")
            until(
                lambda: shown.read_text().count("NAME ") > drawn, what="another one, since something changed"
            )
            watching.send_signal(signal.SIGINT)
            assert watching.wait(60) == 130
        finally:
            watching.kill()
    assert "kubectl ocr:" not in shown.read_text()


def test_a_page_is_read(user: User) -> None:
    page = str(ROOT / "examples" / "invoice.png")
    assert "| Laid paper, 120 g, A4 | 40 | 312.00 |" in user.types("read", "invoices", page)
    assert "Total 504.50\n" in user.types("read", "invoices", page, "--format", "text")
    words = ("--task", "find", "--find-term", "total", "--format", "json")
    assert json.loads(user.types("read", "invoices", page, *words))["boxes"][0]["label"] == "total"
    told = user.types("read", "invoices", page, "--task", "figure", status=Exit.USAGE)
    assert "can't do 'figure'; it can do document, ocr, free, find" in told
    told = user.types("read", "invoices", str(ROOT / "README.md"), status=Exit.USAGE)
    assert "is no picture of a known format" in told


def test_documents_and_folders_are_read_into_files(user: User, tmp_path: Path) -> None:
    """A PDF by a job, a picture by a request; what was read isn't read again."""
    scans, out = tmp_path / "scans", tmp_path / "text"
    (scans / "deep").mkdir(parents=True)
    (scans / "deep" / "two.pdf").write_bytes(pdf([PdfPage("Alpha 17"), PdfPage("Beta 42")]))
    (scans / "one.png").write_bytes((ROOT / "examples" / "invoice.png").read_bytes())
    (scans / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    told = user.types("read", "invoices", str(scans), "--output", str(out), status=Exit.PARTIAL)
    assert "broken.pdf: pod invoices-" in told
    assert "1 of 3 documents couldn't be read" in told
    assert "\r" not in told, "progress is for terminals"
    alpha, beta = (out / "deep" / "two.pdf.md").read_text().split("\n\n---\n\n")
    assert ("Alpha" in alpha, "Beta" in beta) == (True, True)
    assert "504.50" in (out / "one.png.md").read_text()

    (scans / "broken.pdf").unlink()
    written = (out / "one.png.md").stat().st_mtime_ns
    user.types("read", "invoices", str(scans), "--output", str(out))
    assert (out / "one.png.md").stat().st_mtime_ns == written
    page = json.loads(
        user.types("read", "invoices", str(scans / "deep" / "two.pdf"), "--pages", "2", "--format", "json")
    )
    assert [(each["index"], "Beta" in each["text"]) for each in page["pages"]] == [(1, True)]


def jobs(user: User, state: str) -> int:
    """How many jobs of all pods run (`ocr_jobs{state="running"}`), or ended so."""

    async def metrics(pod: str) -> str:
        kubectl = Kubectl("kubectl", [f"--kubeconfig={user.cluster.kubeconfig}"])
        async with (
            kubectl.forward(user.namespace, pod, PORT) as local,
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{local}/metrics") as response,
        ):
            return await response.text()

    name = "ocr_jobs" if state == "running" else "ocr_jobs_ended_total"
    found = [
        re.search(rf'^{name}{{state="{state}"}} (\d+)', asyncio.run(metrics(pod)), re.MULTILINE)
        for pod in user.pods()
    ]
    return sum(int(each[1]) for each in found if each is not None)


def test_ctrl_c_cancels_the_job_in_its_pod(user: User, tmp_path: Path) -> None:
    """The signal goes to all processes of the terminal, so the port-forward that was there ends as well."""
    document = tmp_path / "long.pdf"
    document.write_bytes(pdf([PdfPage(f"Page {number}") for number in range(60)]))
    before = jobs(user, "cancelled")
    reading = subprocess.Popen(
        ["kubectl", "ocr", "read", "invoices", str(document), "-n", user.namespace],
        env=user.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        until(lambda: jobs(user, "running") == 1, what="the job runs")
        os.killpg(reading.pid, signal.SIGINT)
        _, said = reading.communicate(timeout=60)
        assert (reading.returncode, said) == (130, b"")
        assert jobs(user, "cancelled") == before + 1
    finally:
        reading.kill()


@pytest.mark.usefixtures("gpus")
def test_a_pod_that_waits_says_why(user: User) -> None:
    name = "letters"
    large = [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "400Gi"}]
    user.apply(name, replicas=1, models=large)
    until(lambda: "InsufficientGpuMemory" in user.types("status", name), what="placement says no")
    pod = next(each for each in user.pods() if each.startswith(name))
    told = user.types("why", pod)
    assert f"{pod} waits for a GPU" in told
    assert "InsufficientGpuMemory: no GPU fits 400Gi" in told
    assert "waits for a GPU" in user.types("status", name)
    told = user.types("wake", name, status=Exit.LATER)
    assert f"no pod of {name} is ready: InsufficientGpuMemory" in told
    assert "those to come start with it" in user.types("timeout", name, "30")
    user.cluster.kubectl("-n", user.namespace, "delete", "ocr", name)
    until(lambda: len(user.pods()) == 2, what="its pod goes")


def test_names_that_are_not_there_lead_to_those_that_are(user: User) -> None:
    assert "Did you mean 'invoices'?" in user.types("status", "invoice", status=Exit.NOT_FOUND)
    assert "Did you mean 'pp-ocr'?" in user.types(
        "offload", "invoices", "--model", "ppocr", status=Exit.NOT_FOUND
    )
    assert user.pods()[0] in user.types("why", "invoices-1", status=Exit.NOT_FOUND)


@pytest.fixture
def roles(user: User) -> Iterator[None]:
    """The documented ones. They have no namespace: what we made goes, what was there stays as it is."""
    path = str(ROOT / "plugin" / "rbac.yaml")
    there = user.cluster.kubectl("get", "-f", path, "--ignore-not-found", "-o", "name")
    if there:
        yield
        return
    user.cluster.kubectl("create", "-f", path)
    yield
    user.cluster.kubectl("delete", "-f", path)


def test_the_documented_roles_are_enough(user: User, roles: None) -> None:
    as_eve = ("--as", "eve")
    in_place = ("-n", user.namespace)
    told = user.types("status", *as_eve, status=Exit.NOT_ALLOWED)
    assert f"you (eve) may not list pods in namespace {user.namespace}" in told or "ocrdeployments" in told

    def bind(role: str) -> None:
        user.cluster.kubectl(*in_place, "create", "rolebinding", role, f"--clusterrole={role}", "--user=eve")

    bind("kubectl-ocr-look")
    until(lambda: "invoices" in user.types("status", *as_eve), what="the role counts")
    told = user.types("top", *as_eve)
    assert "may not list nodes" in told
    assert user.sharing == "none" or user.pods()[0] in told
    assert user.pods()[0] in user.types("why", user.pods()[0], *as_eve)
    told = user.types("wake", "invoices", *as_eve, status=Exit.NOT_ALLOWED)
    assert f"may not get secrets in namespace {user.namespace}" in told
    told = user.types("timeout", "invoices", "60", *as_eve, status=Exit.NOT_ALLOWED)
    assert "may not patch ocrdeployments.ocr-operator.io" in told

    bind("kubectl-ocr-control")
    user.types("wake", "invoices", *as_eve)
    assert "2 pods work by" in user.types("timeout", "invoices", "61", *as_eve)
    page = str(ROOT / "examples" / "invoice.png")
    assert "| Total | 504.50 |" in user.types("read", "invoices", page, *as_eve)


def test_completion_offers_what_the_cluster_has(user: User) -> None:
    done = subprocess.run(
        ["kubectl_complete-ocr", "status", "-n", user.namespace, "inv"],
        env=user.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["invoices", ":4"]


@pytest.mark.usefixtures("gpus")
def test_of_two_pods_the_one_without_a_model_goes(user: User) -> None:
    """Last in this file: `invoices` has one pod afterwards. Among equals Kubernetes ends the younger one."""
    warm = user.pods()[-1]
    user.types("timeout", "invoices", "never", "--model", "pp-ocr")  # a test before lets it go at once
    user.types("release", "invoices")
    user.types("wake", "invoices", "--pod", warm)
    until(lambda: user.models().get(warm) == "gpu", what="the status says so")
    user.cluster.kubectl("-n", user.namespace, "scale", "ocr/invoices", "--replicas=1")
    until(lambda: len(user.pods()) == 1, what="one pod goes")
    assert user.pods() == [warm]
