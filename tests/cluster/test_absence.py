"""An API server that goes away under the operator's process and its pods, and a definition that is upgraded in place.

Each has a control plane of its own, which it stops or changes, so these are slow ones.
"""

import contextlib
import copy
import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ocr_wire import names
from tests.support import backups, fakepod
from tests.support import cluster as support
from tests.support.operators import PORT, Local, Operator
from tests.support.paths import CRDS
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

NAMESPACE = "absence"
ABSENCE_SECONDS = 75.0
"""What five minutes do to the operator, these do: both of its Leases end (after 15 and 60 s), every watch and stream
was given up and tried again up to its longest delay, and no pass can have waited for the end of it.
"""


@dataclass(frozen=True)
class Scene:
    """An operator, the only control plane that it knows, and what was seen of a resource."""

    ours: Operator
    control_plane: backups.ControlPlane
    operator: Local
    probes: int

    def alive(self) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.probes}/livez", timeout=5) as answer:
            return bool(answer.status == 200)

    def objects(self) -> dict[str, str]:
        """Children and pods of the resource, with their UIDs."""
        label = f"--selector={names.LABEL_DEPLOYMENT}=invoices"
        form = "jsonpath={range .items[*]}{.kind}/{.metadata.name}={.metadata.uid} {end}"
        listed = self.ours.kubectl("get", "deployments,services,secrets,pods", label, "-o", form).split()
        return dict(each.split("=") for each in listed)

    def settled(self, replicas: int, seconds: int) -> bool:
        pods = [each for each in self.ours.pods().values() if "deletionTimestamp" not in each["metadata"]]
        stamped = [each["metadata"]["annotations"].get(names.ANNOTATION_LIVE_SETTINGS) for each in pods]
        values = [json.loads(each)["values"]["idle"]["offloadAfterSeconds"] for each in stamped if each]
        return (
            values == [seconds] * replicas
            and self.ours.holds("Ready")
            and self.ours.holds("ConfigApplied")
            and len(self.ours.resource()["status"]["pods"]) == replicas
        )

    def location(self, pod: str) -> str:
        listed = self.ours.resource()["status"]["pods"]
        return next(str(each["models"][0]["location"]) for each in listed if each["name"] == pod)


@contextlib.contextmanager
def scene(folder: Path, nodes: int) -> Iterator[Scene]:
    with (
        support.started(folder / "cluster", nodes=nodes, defined=True) as cluster,
        contextlib.ExitStack() as stack,
    ):
        place = support.of(cluster)
        place.ask(
            "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        )
        control_plane = stack.enter_context(backups.control_plane(cluster))
        probes = fakepod.free_port()
        operator = Local(
            place,
            NAMESPACE,
            folder / "operator.log",
            pod_name="first",
            identity=f"{NAMESPACE}/operator",
            lease=f"{NAMESPACE}/leader",
            port=str(probes),
        )
        stack.callback(operator.close)
        yield Scene(Operator(place, NAMESPACE, operator), control_plane, operator, probes)


def test_api_server_that_is_away_for_minutes_costs_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    with scene(tmp_path, nodes=2) as here:
        ours = here.ours
        ours.start()
        ours.apply(replicas=2, idle={"offloadAfterSeconds": 3600})
        until(lambda: here.settled(2, 3600), 120, what="the resource works")
        before, revision = here.objects(), ours.resource()["status"]["liveSettings"]["revision"]
        asleep = next(
            each for each in ours.pods().values() if here.location(each["metadata"]["name"]) != "gpu"
        )
        name, address = asleep["metadata"]["name"], asleep["status"]["podIP"]

        with here.control_plane.away():
            gone = time.monotonic()
            page = Path("examples/invoice.png").read_bytes()
            assert _read(address, page)["success"], "pods serve"
            while time.monotonic() - gone < ABSENCE_SECONDS:
                assert here.alive()
                time.sleep(1)

        until(lambda: here.location(name) == "gpu", what="the status shows what happened meanwhile")
        ours.apply(replicas=3, idle={"offloadAfterSeconds": 1800})
        until(lambda: here.settled(3, 1800), 120, what="a new pod is placed, and all work by the new timeout")
        after = here.objects()
        assert before.items() < after.items(), "nothing was made again"
        assert len(after) == len(before) + 1
        assert ours.resource()["status"]["liveSettings"]["revision"] == revision + 1
        for pod in ours.pods().values():
            assert [each["restartCount"] for each in pod["status"]["containerStatuses"]] == [0]
        said = here.operator.log.read_text()
        assert "Traceback" not in said
        assert said.count("watches are up") == 1, "it wasn't started again"


def _read(address: str, page: bytes) -> dict[str, Any]:
    mark = "x" * 40
    body = (
        f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'.encode()
        + page
        + f"\r\n--{mark}--\r\n".encode()
    )
    request = urllib.request.Request(
        f"http://{address}:{PORT}/ocr", body, {"Content-Type": f"multipart/form-data; boundary={mark}"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


# Definitions of other versions


def _older(definition: dict[str, Any]) -> dict[str, Any]:
    """Without fields that came since."""
    found = copy.deepcopy(definition)
    [version] = found["spec"]["versions"]
    fields = version["schema"]["openAPIV3Schema"]["properties"]
    del fields["status"]["default"], fields["status"]["properties"]["awakeReplicas"]
    version["additionalPrinterColumns"] = version["additionalPrinterColumns"][:2]
    return found


def _newer(definition: dict[str, Any]) -> dict[str, Any]:
    """With fields that this operator doesn't know."""
    found = copy.deepcopy(definition)
    [version] = found["spec"]["versions"]
    fields = version["schema"]["openAPIV3Schema"]["properties"]
    fields["spec"]["properties"]["colour"] = {"type": "string", "default": "red"}
    fields["spec"]["properties"]["models"]["items"]["properties"]["colour"] = {"type": "string"}
    fields["status"]["properties"]["colour"] = {"type": "string"}
    return found


def test_definition_that_is_upgraded_in_place_is_taken_up_without_a_restart(tmp_path: Path) -> None:
    today = yaml.safe_load((CRDS / "ocrdeployments.yaml").read_text(encoding="utf-8"))
    with scene(tmp_path, nodes=0) as here:
        ours = here.ours

        def define(definition: dict[str, Any]) -> None:
            flags = ("apply", "--server-side", "--force-conflicts", "-f", "-")
            ours.kubectl(*flags, stdin=json.dumps(definition))

        def seen(generation: int, revision: int) -> bool:
            status = ours.resource().get("status", {})
            live = status.get("liveSettings", {})
            return (status.get("observedGeneration"), live.get("revision")) == (generation, revision)

        define(_older(today))
        ours.start()
        ours.apply(gpu={"sharing": "none"})
        until(lambda: "StatusRefused" in ours.kubectl("get", "events"), what="it says what is wrong")
        assert "is its definition of this operator's version?" in ours.kubectl("get", "events")

        define(today)
        until(lambda: seen(1, 1) and len(here.objects()) == 5, what="it goes on by itself")
        before = here.objects()

        define(_newer(today))
        idle = {"offloadAfterSeconds": 7}
        models = [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "1Gi", "colour": "blue"}]
        ours.apply(gpu={"sharing": "none"}, idle=idle, models=models, colour="green")
        until(lambda: seen(2, 2), what="what it knows of the newer one is done")
        assert ours.resource()["spec"]["colour"] == "green"
        define(today)
        ours.apply(gpu={"sharing": "none"}, idle={"offloadAfterSeconds": 8})
        until(lambda: seen(3, 3), what="and after the upgrade was taken back")
        assert here.objects() == before, "no child was made again, and no pod"
        assert here.alive()
        said = here.operator.log.read_text()
        assert "Traceback" not in said
        assert said.count("watches are up") == 1, "it wasn't started again"
