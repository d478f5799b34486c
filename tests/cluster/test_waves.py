"""The wave of an upgrade with real Deployments: another default image, two resources at a time, one that can't roll."""

import contextlib
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

import pytest
import urllib3

from ocr_wire import names
from tests.support import apiserver
from tests.support import cluster as support
from tests.support.operators import PORT, Local, alone
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

AT_ONCE: Final = 2
RESOURCES: Final = ("archive", "invoices", "letters", "orders")
"""The first one, whose turn comes first, is in a namespace of its own."""
OLD, NEW = (f"registry.example/ocr-inference:{number}" for number in (1, 2))


class Fleet:
    """Resources of two namespaces under one operator, whose default image is a setting."""

    def __init__(self, place: support.Place, folder: Path, apart: str, together: str) -> None:
        self._place, self._folder = place, folder
        self.namespaces = dict.fromkeys(RESOURCES, together) | {RESOURCES[0]: apart}
        self._operator: Local | None = None

    def run(self, image: str) -> None:
        """Start an operator with that default image, in place of the one that ran."""
        self.end(signal.SIGTERM)
        self._operator = Local(
            self._place,
            ",".join(sorted(set(self.namespaces.values()))),
            self._folder / "operator.log",
            inference_image=image,
            upgrades_at_once=str(AT_ONCE),
        )
        self._operator.start()

    def end(self, number: signal.Signals) -> None:
        if self._operator is not None:
            self._operator.end(number)
            self._operator = None

    def close(self) -> None:
        if self._operator is not None:
            self._operator.close()

    def apply(self, name: str) -> None:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "namespace": self.namespaces[name]},
            "spec": {
                "models": [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "1Gi"}],
                "gpu": {"sharing": "none"},
                "server": {"port": PORT},
                "template": {"spec": {"terminationGracePeriodSeconds": 2}},
            },
        }
        self._place.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def items(self, path: str) -> list[dict[str, Any]]:
        """Objects of all resources as they are at one moment."""
        found: list[dict[str, Any]] = self._place.ask(f"{path}?labelSelector={names.LABEL_DEPLOYMENT}")[
            "items"
        ]
        return [each for each in found if each["metadata"]["namespace"] in self.namespaces.values()]

    def rolling(self) -> set[str]:
        """Resources whose template has the new image, and that aren't done with it."""
        return {name for name, state in self._states().items() if state == "rolling"}

    def done(self) -> set[str]:
        """Resources of new pods only, all of which were available at one time: a probe may fail later."""
        return {name for name, state in self._states().items() if state == "done"}

    def ready(self) -> bool:
        """Whether all have a pod that serves."""
        found = self.items("/apis/apps/v1/deployments")
        return len(found) == len(RESOURCES) and all(
            each.get("status", {}).get("availableReplicas") == 1 for each in found
        )

    def reason(self, name: str) -> str:
        """That of the condition `Progressing`."""
        path = f"/apis/{names.API_VERSION}/namespaces/{self.namespaces[name]}/{names.PLURAL}/{name}"
        conditions = self._place.ask(path).get("status", {}).get("conditions", [])
        return next((each["reason"] for each in conditions if each["type"] == "Progressing"), "")

    def _states(self) -> dict[str, str]:
        found = {}
        for each in self.items("/apis/apps/v1/deployments"):
            [container] = each["spec"]["template"]["spec"]["containers"]
            status, wanted = each.get("status", {}), each["spec"]["replicas"]
            observed = status.get("observedGeneration") == each["metadata"]["generation"]
            counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas")]
            reasons = [one["reason"] for one in status.get("conditions", ()) if one["type"] == "Progressing"]
            complete = observed and counts == [wanted] * 2 and reasons == ["NewReplicaSetAvailable"]
            state = "done" if complete else "rolling"
            found[each["metadata"]["name"]] = state if container["image"] == NEW else "waiting"
        return found


class Watching(threading.Thread):
    """Notes which resources roll at the same time, as often as the API server answers."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self._fleet, self._over = fleet, threading.Event()
        self.seen: set[frozenset[str]] = set()

    def run(self) -> None:
        while not self._over.wait(0.02):
            with contextlib.suppress(urllib3.exceptions.HTTPError, apiserver.Refused):  # a look less
                self.seen.add(frozenset(self._fleet.rolling()))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    @property
    def most(self) -> int:
        return max(len(each) for each in self.seen)


@pytest.fixture
def fleet(cluster: support.Place, tmp_path: Path) -> Iterator[Fleet]:
    alone(cluster)
    with ExitStack() as stack:
        apart, together = (stack.enter_context(cluster.namespace(each)) for each in ("a-wave", "b-wave"))
        fleet = Fleet(cluster, tmp_path, apart, together)
        stack.callback(fleet.close)
        fleet.run(OLD)
        for name in RESOURCES:
            fleet.apply(name)
        until(fleet.ready, 180, what="all serve with the old image")
        yield fleet
        for namespace in (apart, together):
            cluster.kubectl("-n", namespace, "delete", "ocr", "--all", "--wait=false")
        until(lambda: not fleet.items("/api/v1/pods"), what="pods go with their resources")


def test_wave_rolls_two_at_a_time_whatever_becomes_of_the_operator_and_of_one_resource(
    cluster: support.Place, fleet: Fleet
) -> None:
    """The namespace of the first resource takes no more pods: it keeps its place and its old pod, the others go on."""
    stuck, others = RESOURCES[0], set(RESOURCES[1:])
    before = {each["metadata"]["uid"] for each in fleet.items("/api/v1/pods")}
    limit = {"type": "Pod", "max": {"cpu": "1m"}}
    body = {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "none"},
        "spec": {"limits": [limit]},
    }
    cluster.kubectl("-n", fleet.namespaces[stuck], "create", "-f", "-", stdin=json.dumps(body))

    with Watching(fleet) as watching:
        fleet.run(NEW)
        until(lambda: bool(fleet.done()), 180, what="one has had its turn")
        fleet.end(signal.SIGKILL)
        fleet.run(NEW)
        until(lambda: fleet.done() == others, 240, what="all others are new")
    assert watching.most == AT_ONCE
    assert fleet.rolling() == {stuck}
    [old] = until(
        lambda: [left for left in [_of(fleet, before)] if len(left) == 1], what="old pods are gone but one"
    )[0]
    assert old == stuck, "it serves as before"

    cluster.kubectl("-n", fleet.namespaces[stuck], "delete", "limitrange", "none")
    until(lambda: fleet.done() == set(RESOURCES), 180, what="it follows once its pod is let in")
    until(lambda: {fleet.reason(each) for each in RESOURCES} == {"Complete"}, what="all say so")


def _of(fleet: Fleet, uids: set[str]) -> list[str]:
    """The resources of those pods that are still there."""
    pods = [each["metadata"] for each in fleet.items("/api/v1/pods") if each["metadata"]["uid"] in uids]
    return [each["labels"][names.LABEL_DEPLOYMENT] for each in pods]
