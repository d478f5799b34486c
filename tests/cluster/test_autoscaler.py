"""Kubernetes' own HorizontalPodAutoscaler scales a resource whose operator is at work, by a metric of it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ocr_wire import names
from tests.support import cluster as support
from tests.support import custommetrics, pages
from tests.support.custommetrics import CustomMetrics
from tests.support.operators import PORT, Operator, running
from tests.support.paths import ROOT
from tests.support.realpods import read
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

WITHIN = 120.0
"""Seconds for a step of the autoscaler, which looks every 15 s."""


@pytest.fixture
def ours(cluster: support.Place, tmp_path: Path) -> Iterator[Operator]:
    with running(cluster, tmp_path, "scaled") as operator:
        yield operator


@pytest.fixture
def waiting(ours: Operator, tmp_path: Path) -> Iterator[CustomMetrics]:
    """What the autoscaler reads; the test says how many pages wait."""
    with custommetrics.served(
        ours.place, ours.namespace, tmp_path, "ocr_waiting_per_awake_replica"
    ) as metrics:
        yield metrics


def _autoscaler(most: int) -> str:
    """That of the example for `invoices`, from one replica to so many, without its delays."""
    text = (ROOT / "examples" / "hpa.yaml").read_text(encoding="utf-8")
    _, scaler = yaml.safe_load_all(text)
    scaler["spec"]["scaleTargetRef"]["name"] = "invoices"
    scaler["spec"] |= {"minReplicas": 1, "maxReplicas": most}
    [metric] = scaler["spec"]["metrics"]
    metric["object"]["describedObject"]["name"] = "invoices"
    for behavior in scaler["spec"]["behavior"].values():
        behavior["stabilizationWindowSeconds"] = 0
    return json.dumps(scaler)


def _settled(ours: Operator, replicas: int) -> bool:
    """Whether so many are wanted, and serve, with the settings of now."""
    resource = ours.resource()
    return (
        resource["spec"].get("replicas") == replicas
        and len(ours.pods()) == replicas
        and resource.get("status", {}).get("readyReplicas") == replicas
        and ours.holds("Ready")
        and ours.holds("ConfigApplied")
    )


def _generations(ours: Operator) -> tuple[int, int]:
    """How often the resource was changed, and its Deployment."""
    child = json.loads(ours.kubectl("get", "deployment", "invoices", "-o", "json"))
    return ours.resource()["metadata"]["generation"], child["metadata"]["generation"]


def _unchanged(ours: Operator, waiting: CustomMetrics) -> bool:
    """Whether nothing was changed in the time in which the autoscaler looked twice."""
    before, looks = _generations(ours), waiting.asked
    until(lambda: waiting.asked >= looks + 2, WITHIN, what="it has looked twice again")
    return _generations(ours) == before


def _offloads(ours: Operator) -> set[Any]:
    """The idle times that pods have."""
    notes = (each["metadata"]["annotations"][names.ANNOTATION_LIVE_SETTINGS] for each in ours.pods().values())
    return {json.loads(each)["values"]["idle"]["offloadAfterSeconds"] for each in notes}


def test_autoscaler_goes_up_under_load_and_down_again_with_the_pod_that_costs_least(
    ours: Operator, waiting: CustomMetrics
) -> None:
    """What it wants is four pages that wait for each replica, all of which are awake here as far as it knows."""
    ours.apply(idle={"offloadAfterSeconds": 3600})
    until(lambda: _settled(ours, 1), WITHIN, what="one replica, which is the default")
    [first] = ours.pods()
    ours.kubectl("create", "-f", "-", stdin=_autoscaler(3))
    until(lambda: waiting.asked > 0, WITHIN, what="the autoscaler reads the metric")

    waiting.total = 12
    until(lambda: _settled(ours, 3), WITHIN, what="three replicas for twelve pages")
    assert first in ours.pods()

    ours.kubectl(
        "patch", "ocr", "invoices", "--type=merge", "-p", '{"spec":{"idle":{"offloadAfterSeconds":1800}}}'
    )
    until(
        lambda: _settled(ours, 3) and _offloads(ours) == {1800}, WITHIN, what="live settings change under it"
    )

    before = _generations(ours)
    ours.kubectl("scale", "ocr/invoices", "--replicas=2")
    until(
        lambda: _generations(ours)[0] >= before[0] + 2 and _settled(ours, 3),
        WITHIN,
        what="the autoscaler sets it back",
    )
    until(lambda: _unchanged(ours, waiting), 2 * WITHIN, what="nobody fights")
    assert _settled(ours, 3)

    [*_, last] = sorted(ours.pods().values(), key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
    status, body = asyncio.run(read(f"http://{last['status']['podIP']}:{PORT}", pages.blank()))
    assert status == 200, body
    warm = last["metadata"]["name"]
    until(
        lambda: _location(ours, warm) == "gpu", what="the operator knows which pod has its model on the GPU"
    )

    waiting.total = 0
    until(lambda: _settled(ours, 1), WITHIN, what="one replica again")
    assert [*ours.pods()] == [warm], "the others cost less, though one of them is the oldest"
    assert _offloads(ours) == {1800}
    assert ours.resource()["spec"]["idle"] == {"offloadAfterSeconds": 1800}


def _location(ours: Operator, pod: str) -> str:
    pods = ours.resource()["status"]["pods"]
    return next((each["models"][0]["location"] for each in pods if each["name"] == pod), "")
