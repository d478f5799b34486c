"""A pod with an address of IPv6: placed, probed, watched, told its settings and read by the operator."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocr_wire import names
from tests.support import cluster as support
from tests.support.operators import Operator, running
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

NODE = "gpu-b"


@pytest.fixture
def operator(ipv6_cluster: support.Place, tmp_path: Path) -> Iterator[Operator]:
    with running(ipv6_cluster, tmp_path) as ours:
        yield ours


def test_a_resource_becomes_ready_over_ipv6(operator: Operator) -> None:
    spec: dict[str, Any] = {
        "nodeSelector": {"kubernetes.io/hostname": NODE},
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 2,
    }
    operator.apply(template={"spec": spec})
    until(lambda: operator.holds("Ready") and operator.holds("ConfigApplied"), what="ready")
    [pod] = operator.pods().values()
    assert pod["status"]["podIPs"] == [{"ip": "::1"}]
    # By what the exporter on that node says, which has such an address, too.
    placement = json.loads(pod["metadata"]["annotations"][names.ANNOTATION_PLACEMENT])
    assert (placement["node"], placement["dataSource"]) == (NODE, "exporter"), placement
    [reported] = operator.resource()["status"]["pods"]
    assert reported["models"][0]["location"] == "unloaded"

    operator.apply(template={"spec": spec}, idle={"offloadAfterSeconds": 7})
    until(lambda: operator.holds("ConfigApplied"), 15, what="a change is applied")
    until(lambda: operator.place.service("invoices", operator.namespace), what="the Service leads to the pod")
