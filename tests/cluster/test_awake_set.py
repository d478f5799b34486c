"""The awake set with real processes: requests go through the Service, as an application's do."""

import contextlib
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench import fakepods
from ocr_wire import names
from tests.support import cluster as support
from tests.support import pages
from tests.support.operators import PORT, Operator, running
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

PAGE = pages.blank()
ENGINE = {"load_seconds": 1.0, "restore_seconds": 0.2, "infer_seconds": 0.4}
"""Of the fake engine: it takes time, but no CPU."""
ROUTING = {"policy": "warmFirst", "maxQueuePerPod": 2, "stabilizationSeconds": 1}


class Client:
    """An application: it knows the Service, and tries again when a try fails."""

    def __init__(self, ours: Operator) -> None:
        self.operator = ours

    def service(self) -> str:
        """Its `address:port`."""
        return until(
            lambda: self.operator.place.service("invoices", self.operator.namespace), what="a Service"
        )

    def endpoints(self, service: str) -> list[str]:
        return self.operator.place.endpoints(service, self.operator.namespace)

    def read(self, timeout: float = 180.0, at: str = "") -> bool:
        """One page, by the Service or at an `address:port`; False if nobody answered."""
        boundary = "page-ends-here"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="p.png"\r\n\r\n'
        body = head.encode() + PAGE + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"http://{at or self.service()}/ocr", body, headers), timeout=timeout
            ) as answer:
                return bool(json.load(answer)["success"])
        except (OSError, urllib.error.URLError):
            return False

    def answered(self, within: float, what: str, timeout: float = 8.0) -> float:
        """Seconds until a page is read, trying again and again."""
        began = time.monotonic()
        until(lambda: self.read(timeout), within, what)
        return time.monotonic() - began


def awake(ours: Operator) -> list[str]:
    return [
        name
        for name, pod in ours.pods().items()
        if pod["metadata"]["labels"].get(names.LABEL_AWAKE) == "true"
    ]


def loads(ours: Operator) -> dict[str, int]:
    """How often each pod has loaded its model, by its own word."""
    found = {}
    for name, pod in ours.pods().items():
        with urllib.request.urlopen(f"http://{pod['status']['podIP']}:{PORT}/v1/state", timeout=10) as answer:
            found[name] = sum(model["loads"] for model in json.load(answer)["models"])
    return found


@pytest.fixture(scope="module")
def client(cluster: support.Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of four ready replicas, of which one is awake. A pod reads one page at a time, in its own time."""
    with running(cluster, tmp_path_factory.mktemp("awake"), "awake") as operator:
        operator.kubectl("apply", "-f", "-", stdin=json.dumps(fakepods.config_map(ENGINE)))
        apply(operator)
        until(lambda: operator.holds("Ready") and operator.holds("ConfigApplied"), 120, "ready")
        until(lambda: operator.resource()["status"].get("awakeReplicas") == 1, what="one is awake")
        yield Client(operator)


def apply(ours: Operator, **routing: int) -> None:
    ours.apply(
        replicas=4,
        routing=ROUTING | routing,
        batching={"maxPages": 1},
        queue={"limit": 200},
        template=fakepods.template(terminationGracePeriodSeconds=2),
    )


@contextlib.contextmanager
def down(ours: Operator) -> Iterator[None]:
    """No operator within the block; all replicas are ready after it."""
    ours.end(signal.SIGKILL)
    try:
        yield
    finally:
        ours.start()
    until(lambda: len(ours.pods()) == 4 and ours.holds("Ready"), 90, "an operator takes over")


def test_sparse_traffic_wakes_one_pod_and_a_burst_more(client: Client) -> None:
    for _ in range(6):
        assert client.read()
    assert sorted(loads(client.operator).values()) == [0, 0, 0, 1]

    with ThreadPoolExecutor(30) as crowd:
        reads = [crowd.submit(client.read) for _ in range(20)]
        until(lambda: len(awake(client.operator)) >= 3, what="the burst wakes several")
        reads += [crowd.submit(client.read) for _ in range(10)]
        assert all(each.result() for each in reads)
    assert sum(count > 0 for count in loads(client.operator).values()) >= 2, "those who joined were asked"
    until(lambda: len(awake(client.operator)) == 1, what="the set shrinks")
    assert client.read()


def test_requests_find_a_pod_whatever_happens(client: Client) -> None:
    """Each trouble on its own; printed is how long an application that tries again waited."""
    ours, took = client.operator, dict[str, float]()
    assert client.read()

    [victim] = awake(ours)
    ours.kubectl("label", "pod", victim, f"{names.LABEL_AWAKE}-")
    took["label removed"] = client.answered(20, "the label is mended")

    for other in ours.pods():
        ours.kubectl("label", "pod", other, f"{names.LABEL_AWAKE}=false", "--overwrite")
    took["all labels false"] = client.answered(20, "the labels are mended")

    [victim] = until(lambda: [each for each in [awake(ours)] if len(each) == 1], what="one is awake")[0]
    ours.kubectl("delete", "pod", victim, "--force", "--grace-period=0")
    took["pod deleted"] = client.answered(30, "another pod takes over")
    until(lambda: victim not in awake(ours), what="the set has no dead pod")

    ours.end(signal.SIGKILL)
    took["operator down"] = client.answered(20, "the set outlives the operator")
    ours.start()
    until(lambda: ours.holds("Ready"), 90, "an operator takes over")
    took["operator back"] = client.answered(20, "the set goes on")
    print("seconds until an answer:", json.dumps({what: round(each, 1) for what, each in took.items()}))


def test_pod_that_stops_answering_is_unknown_within_15_seconds_and_another_takes_over(client: Client) -> None:
    ours = client.operator

    def unknown(count: int) -> bool:
        return bool(ours.resource()["status"]["locations"].get("unknown") == count)

    assert client.read()
    with stopped(ours), ThreadPoolExecutor(1) as beside:
        told = beside.submit(until, lambda: unknown(1), 15, "the status says unknown")
        took = client.answered(90, "another pod takes over from one that hangs")
        told.result()
    until(lambda: unknown(0), what="it is known again")
    print(f"seconds until an answer: {took:.1f}")


def test_sleepers_answer_while_the_operator_is_down_and_the_last_awake_pod_is_deleted(client: Client) -> None:
    """The Service selects nobody then; `<name>-all` has every pod, and a label set by hand mends the Service."""
    ours = client.operator
    [victim] = until(lambda: [each for each in [awake(ours)] if len(each) == 1], what="one is awake")[0]
    with down(ours):
        ours.kubectl("delete", "pod", victim, "--force", "--grace-period=0")
        until(lambda: len(ours.pods()) == 4, what="another one waits at its gate")
        assert client.endpoints("invoices") == []
        assert not client.read()
        sleepers = client.endpoints("invoices-all")
        assert len(sleepers) == 3
        assert all(client.read(at=each) for each in sleepers)

        sleeper = next(name for name, pod in ours.pods().items() if pod["status"].get("podIP"))
        ours.kubectl("label", "pod", sleeper, f"{names.LABEL_AWAKE}=true", "--overwrite")
        client.answered(20, "the Service selects the one that was labelled")


def test_two_awake_pods_are_enough_for_the_loss_of_one_while_the_operator_is_down(client: Client) -> None:
    ours = client.operator
    apply(ours, minAwake=2)
    try:
        until(lambda: len(client.endpoints("invoices")) >= 2, what="two are awake")
        with down(ours):
            known = client.endpoints("invoices")
            ips = {pod["status"].get("podIP"): name for name, pod in ours.pods().items()}
            ours.kubectl("delete", "pod", ips[known[0].rpartition(":")[0]], "--force", "--grace-period=0")
            until(lambda: 0 < len(client.endpoints("invoices")) < len(known), what="one less is left")
            assert client.read()
    finally:
        apply(ours)
    until(lambda: len(awake(ours)) == 1, what="the set is as it was")


class stopped:  # noqa: N801  reads as a statement
    """The server of the awake pod stands still."""

    def __init__(self, ours: Operator) -> None:
        [name] = until(lambda: [each for each in [awake(ours)] if len(each) == 1], what="one is awake")[0]
        self.process = ours.server(ours.pods()[name])

    def __enter__(self) -> None:
        os.kill(self.process, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # its liveness probe was faster
            os.kill(self.process, signal.SIGCONT)
