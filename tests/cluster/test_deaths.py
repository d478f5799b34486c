"""The operator's process is killed after each of its writes to a real API server, through the life of a resource."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from devcluster.supervisor.bootstrap import EXPORTER_NAMESPACE
from ocr_wire import names
from tests.support import cluster as support
from tests.support.operators import Operator
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1200)]

WITHIN = 400.0
"""Seconds for a step: each life takes as long as a start of Python."""


class Lives:
    """One process after the other, each killed by its first write."""

    def __init__(self, place: support.Place, namespace: str, log: Path) -> None:
        self._environ = os.environ | {
            "KUBECONFIG": str(place.kubeconfig),
            "OCR_OPERATOR_WATCH_NAMESPACES": namespace,
            "OCR_OPERATOR_EXPORTER_NAMESPACE": EXPORTER_NAMESPACE,
            "OCR_OPERATOR_SCRAPE_SECONDS": "1",
            "WRITES": "1",
        }
        self.log, self.ended = log, 0
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._process is not None:
            self._process.kill()
        self._thread.join()

    def _run(self) -> None:
        command = [sys.executable, "-m", "tests.support.mortal"]
        with self.log.open("ab") as log:
            while not self._over.is_set():
                self._process = subprocess.Popen(command, env=self._environ, stdout=log, stderr=log)
                self.ended += self._process.wait() == -signal.SIGKILL and not self._over.is_set()


class NoRuns:
    """The operator is started by `Lives`."""

    def start(self) -> None: ...

    def end(self, number: signal.Signals) -> int:
        return 0

    def close(self) -> None: ...


@pytest.fixture
def ours(cluster: support.Place) -> Iterator[Operator]:
    if cluster.operator is not None:
        pytest.skip(f"the operator {cluster.operator} watches all namespaces of this cluster")
    with cluster.namespace("deaths") as namespace:
        yield Operator(cluster, namespace, NoRuns())


def test_operator_that_is_killed_after_each_write_brings_a_resource_through_its_life(
    ours: Operator, tmp_path: Path
) -> None:
    token: set[str] = set()
    revisions: list[int] = []

    def settled(replicas: int, seconds: int | None = None) -> dict[str, str]:
        def holds() -> bool:
            status = ours.resource().get("status", {})
            revisions.append(status.get("liveSettings", {}).get("revision", 0))
            pods = ours.pods().values()
            stamped = [p["metadata"]["annotations"].get(names.ANNOTATION_LIVE_SETTINGS) for p in pods]
            values = [json.loads(each)["values"]["idle"]["offloadAfterSeconds"] for each in stamped if each]
            return (
                ours.holds("Ready")
                and ours.holds("ConfigApplied")
                and len(status["pods"]) == len(pods) == len(values) == replicas
                and (seconds is None or set(values) == {seconds})
            )

        until(holds, WITHIN, what="it settles")
        token.add(ours.kubectl("get", "secret", "invoices-ocr-admin", "-o", "jsonpath={.data}"))
        label = f"--selector={names.LABEL_DEPLOYMENT}=invoices"
        form = "jsonpath={range .items[*]}{.kind}/{.metadata.name}={.metadata.uid} {end}"
        listed = ours.kubectl("get", "deployments,services,secrets,pods", label, "-o", form).split()
        return dict(each.split("=") for each in listed)

    server: dict[str, Any] = {"idle": {"offloadAfterSeconds": 7}}
    with Lives(ours.place, ours.namespace, tmp_path / "operator.log") as lives:
        ours.apply(replicas=2)
        created = settled(2)
        ours.apply(replicas=2, **server)
        assert settled(2, 7) == created, "nothing was made again"
        ours.apply(replicas=3, **server)
        scaled = settled(3, 7)
        assert created.items() < scaled.items()
        ours.apply(replicas=3, **server, template={"metadata": {"annotations": {"roll": "1"}}})
        until(lambda: not {*ours.pods()} & {each.partition("/")[2] for each in scaled}, WITHIN, what="rolled")
        rolled = settled(3, 7)
        assert {k: v for k, v in rolled.items() if k[:4] != "Pod/"} == {
            k: v for k, v in created.items() if k[:4] != "Pod/"
        }
        ours.kubectl("delete", "ocr", "--all", "--wait=false")
        until(lambda: not ours.pods(), WITHIN, what="pods go with their resource")
    said = lives.log.read_text()
    sys.stdout.write(said)
    assert len(token) == 1
    assert revisions == sorted(revisions)
    assert lives.ended > 20
    assert "Traceback" not in said
