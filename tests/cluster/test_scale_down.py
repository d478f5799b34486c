"""Which pods a real ReplicaSet ends when a resource is to have fewer: those first whose end costs least."""

import base64
import json
import urllib.request
from collections.abc import Iterator

import pytest

from bench import fakepods
from ocr_wire import names
from tests.support import cluster as support
from tests.support.operators import PORT, Operator, running
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

ENGINE = {"load_seconds": 0.1, "restore_seconds": 0.1, "infer_seconds": 0.1}
"""Of the fake engine: it takes no CPU."""
STAYS = {"offloadAfterSeconds": -1, "exitAfterSeconds": -1, "releaseAfterSeconds": -1}


def apply(ours: Operator, replicas: int) -> None:
    template = fakepods.template(terminationGracePeriodSeconds=2)
    ours.apply(replicas=replicas, idle=STAYS, routing={"policy": "all"}, template=template)


@pytest.fixture(scope="module")
def operator(cluster: support.Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with running(cluster, tmp_path_factory.mktemp("fewer"), "fewer") as ours:
        ours.kubectl("apply", "-f", "-", stdin=json.dumps(fakepods.config_map(ENGINE)))
        yield ours


def control(ours: Operator, pod: str, path: str) -> None:
    """`POST` one of the pod's controls, as an administrator."""
    secret = json.loads(ours.kubectl("get", "secret", "invoices-ocr-admin", "-o", "json"))
    token = base64.b64decode(secret["data"][names.ADMIN_KEY]).decode()
    url = f"http://{ours.pods()[pod]['status']['podIP']}:{PORT}{path}"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, b"{}", headers), timeout=60) as answer:
        assert answer.status == 200


def locations(ours: Operator) -> dict[str, str]:
    """Where the model of each pod is, by the status."""
    listed = ours.resource().get("status", {}).get("pods", [])
    return {each["name"]: each["models"][0]["location"] for each in listed}


def staying(ours: Operator) -> set[str]:
    return {name for name, pod in ours.pods().items() if "deletionTimestamp" not in pod["metadata"]}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_pods_without_weights_end_first_then_those_that_sleep_and_last_the_one_that_is_warm(
    operator: Operator, order: tuple[int, int, int]
) -> None:
    """Whatever their names and ages are; the operator writes what each end costs right before it scales."""
    apply(operator, replicas=3)
    until(lambda: len(operator.pods()) == 3 and operator.holds("Ready"), 120, "three are ready")
    listed = operator.pods().values()
    by_age = sorted(listed, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
    warm, asleep, empty = (by_age[number]["metadata"]["name"] for number in order)
    for pod, path in (
        (warm, "/gpu/load"),
        (asleep, "/gpu/load"),
        (asleep, "/gpu/offload"),
        (empty, "/gpu/release"),
    ):
        control(operator, pod, path)
    reached = {warm: "gpu", asleep: "cpu", empty: "unloaded"}
    until(lambda: locations(operator) == reached, what="each is in its state")

    apply(operator, replicas=2)
    until(lambda: len(staying(operator)) == 2, what="one ends")
    assert staying(operator) == {warm, asleep}
    apply(operator, replicas=1)
    until(lambda: len(staying(operator)) == 1, what="another one ends")
    assert staying(operator) == {warm}
    until(lambda: set(operator.pods()) == {warm}, what="they are gone")
