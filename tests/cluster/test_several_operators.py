"""Two operators' processes on a real API server: of one namespace its owner works in it, and the other waits; and two
that no Lease keeps apart, on the same GPUs.
"""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from ocr_operator.decide.ownership import LEASE_NAME
from ocr_wire import names
from tests.support import cluster as support
from tests.support.operators import Local, Operator, alone
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

Pair = tuple[Operator, Operator, Local]


@pytest.fixture
def pair(control_plane: support.Place, tmp_path: Path) -> Iterator[Pair]:
    """Two operators that would write different children; only the first one runs."""
    alone(control_plane)
    with control_plane.namespace("owned") as namespace:
        first, second = (
            Local(
                control_plane,
                namespace,
                tmp_path / f"{name}.log",
                identity=f"{namespace}/{name}",
                inference_image=f"{name}:1",
            )
            for name in ("first", "second")
        )
        try:
            first.start()
            places = (Operator(control_plane, namespace, each) for each in (first, second))
            yield next(places), next(places), second
        finally:
            first.close()
            second.close()


def _child(ours: Operator) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        ours.kubectl("get", "deployment", "invoices", "-o", "json", "--ignore-not-found") or "{}"
    )
    return found


def _holder(ours: Operator) -> str:
    return ours.kubectl(
        "get", "lease", LEASE_NAME, "-o", "jsonpath={.spec.holderIdentity}", "--ignore-not-found"
    )


def test_one_of_two_operators_writes_and_a_restart_of_it_changes_nothing(pair: Pair) -> None:
    ours, others, second = pair
    ours.apply(replicas=1)
    until(lambda: bool(_child(ours)), what="the first one makes children")
    second.start()
    until(lambda: "writes nothing there" in second.log.read_text(), what="the second one says that it waits")
    until(lambda: "NamespaceTaken" in ours.kubectl("get", "events"), what="and has an Event")
    generation = _child(ours)["metadata"]["generation"]

    ours.end(signal.SIGTERM)
    ours.start()
    ours.apply(replicas=2)
    until(lambda: _child(ours)["spec"]["replicas"] == 2, what="the restarted one goes on")

    child = _child(ours)
    assert child["metadata"]["generation"] == generation + 1
    assert child["spec"]["template"]["spec"]["containers"][0]["image"] == "first:1"
    assert _holder(ours) == f"{ours.namespace}/first"

    ours.end(signal.SIGTERM)
    ours.kubectl("patch", "lease", LEASE_NAME, "--type=merge", "-p", '{"spec":{"holderIdentity":""}}')
    until(lambda: _holder(others).endswith("/second"), what="the other one takes it over")
    until(lambda: _child(ours)["spec"]["template"]["spec"]["containers"][0]["image"] == "second:1")


GPUS: Final = 4
MODELS: Final = [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "30Gi"}]
"""One fits on a GPU."""


class Rivals:
    """Resources of two operators, neither of which asks a Lease before it writes what the other may write, too."""

    def __init__(self, place: support.Place, namespaces: list[str], folder: Path) -> None:
        self._resources = [Operator(place, each, _NotRun()) for each in dict.fromkeys(namespaces)]
        self._operators = []
        for name, namespace in zip(("first", "second"), namespaces, strict=True):
            identity = {"identity": f"{namespace}/{name}"} if len(self._resources) == 2 else {}
            self._operators.append(Local(place, namespace, folder / f"{name}.log", **identity))

    def start(self) -> None:
        """Their pods have a gate of somebody else, so none starts: what has started would keep its promise."""
        template = {"spec": {"schedulingGates": [{"name": "example.com/later"}]}}
        for each in self._resources:
            each.apply(replicas=0, models=MODELS, gpu={"sharing": "shared"}, template=template)
        for operator in self._operators:
            operator.start()
        until(lambda: all(each.holds("Ready") for each in self._resources), 120, what="both work")

    def close(self) -> None:
        for each in self._operators:
            each.close()

    def scale(self, replicas: int) -> None:
        """To so many pods together, all at once."""
        share = replicas // len(self._resources)
        with ThreadPoolExecutor(len(self._resources)) as threads:
            scale = ("scale", "ocr/invoices", f"--replicas={share}")
            list(threads.map(lambda each: each.kubectl(*scale), self._resources))

    def pods(self) -> list[dict[str, Any]]:
        return [pod for each in self._resources for pod in each.pods().values()]

    def promised(self) -> Counter[str]:
        """GPU → how many pods it is promised to."""
        notes = (pod["metadata"]["annotations"] for pod in self.pods() if not _ends(pod))
        return Counter(
            each[names.ANNOTATION_GPU_UUIDS] for each in notes if names.ANNOTATION_GPU_UUIDS in each
        )

    def undone(self) -> int:
        """How many promises were undone so far."""
        found = (each.kubectl("get", "events", "-o", "json") for each in self._resources)
        events = [event for each in found for event in json.loads(each)["items"]]
        return sum(event["reason"] == "PromiseUndone" for event in events)


class _NotRun:
    """Operators that are started by `Rivals`."""

    def start(self) -> None: ...

    def end(self, number: signal.Signals) -> int:
        return 0

    def close(self) -> None: ...


def _ends(pod: dict[str, Any]) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


@pytest.fixture
def rivals(cluster: support.Place, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rivals]:
    """Of two namespaces, as two releases are, or of the same one, as two replicas whose Lease was deleted."""
    alone(cluster)
    with ExitStack() as stack:
        namespaces = [stack.enter_context(cluster.namespace("rivals")) for _ in range(request.param)]
        rivals = Rivals(cluster, (namespaces * 2)[:2], tmp_path)
        stack.callback(rivals.close)
        rivals.start()
        yield rivals
        rivals.scale(0)
        until(lambda: not rivals.pods(), what="all pods end")


@pytest.mark.parametrize("rivals", [1, 2], indirect=True, ids=["same namespace", "a namespace each"])
@pytest.mark.parametrize(
    "scale_ups", [3, pytest.param(15, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_gpus_that_two_operators_promise_at_once_are_one_pods_each_after_every_scale_up(
    rivals: Rivals, scale_ups: int
) -> None:
    """Two pods more than GPUs: in the end each GPU is promised once, and two pods wait."""
    twice = 0
    for number in range(scale_ups):
        rivals.scale(GPUS + 2)
        began = rivals.undone()

        def settled() -> bool:
            pods = [each for each in rivals.pods() if not _ends(each)]
            return len(pods) == GPUS + 2 and sorted(rivals.promised().values()) == [1] * GPUS

        until(settled, 90, what=f"each GPU is promised once, in scale-up {number}")
        twice += rivals.undone() > began
        rivals.scale(0)
        until(lambda: not rivals.pods(), what="all pods end")
    print(f"{twice} of {scale_ups} scale-ups promised a GPU twice for a moment")
