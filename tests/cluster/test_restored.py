"""The operator's process on a real control plane whose etcd is restored from a backup, or that forgets its versions.

Each restart of an API server takes seconds, so these are slow ones.
"""

import contextlib
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ocr_wire import names
from tests.support import backups
from tests.support import cluster as support
from tests.support.apiserver import Refused
from tests.support.operators import Local
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

NAMESPACE = "restored"


@dataclass(frozen=True)
class Scene:
    """An operator and the only control plane that it knows."""

    place: support.Place
    control_plane: backups.ControlPlane
    operator: Local

    def apply(self, name: str, offload: int) -> None:
        spec = {
            "models": [{"name": "pp-ocr", "engine": "rapidocr"}],
            "gpu": {"sharing": "none"},
            "idle": {"offloadAfterSeconds": offload},
        }
        body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}, "spec": spec}
        self.place.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(body))

    def delete(self, name: str) -> None:
        self.place.kubectl("-n", NAMESPACE, "delete", "ocr", name, "--wait=false")

    def status(self, name: str) -> dict[str, Any]:
        path = f"/apis/{names.API_VERSION}/namespaces/{NAMESPACE}/{names.PLURAL}/{name}"
        found: dict[str, Any] = self.place.ask(path).get("status", {})
        return found

    def runs_by(self, name: str, offload: int) -> bool:
        """The operator has that value in the status; what it wrote before is gone with a restore."""
        with contextlib.suppress(Refused):
            sources = self.status(name).get("liveSettings", {}).get("sources", [])
            return {"field": "idle.offloadAfterSeconds", "value": str(offload), "from": "spec"} in sources
        return False

    def version(self) -> str:
        """The newest of the resources' kind."""
        found: str = self.place.ask(f"/apis/{names.API_VERSION}/{names.PLURAL}")["metadata"][
            "resourceVersion"
        ]
        return found

    def forgotten(self, version: str) -> bool:
        """The API server takes no watch from that version on anymore."""
        query = f"watch=true&timeoutSeconds=1&resourceVersion={version}"
        try:
            answer = self.place.ask(f"/apis/{names.API_VERSION}/{names.PLURAL}?{query}")
        except Refused as error:
            return error.status == 410
        except ValueError:  # no line, or several
            return False
        return bool(answer["object"].get("code") == 410)

    def services(self) -> set[str]:
        path = f"/api/v1/namespaces/{NAMESPACE}/services?labelSelector={names.LABEL_DEPLOYMENT}"
        return {each["metadata"]["name"] for each in self.place.ask(path)["items"]}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with support.started(tmp_path / "cluster", defined=True) as cluster, contextlib.ExitStack() as stack:
        place = support.of(cluster)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        place.ask("/api/v1/namespaces", namespace)
        control_plane = stack.enter_context(backups.control_plane(cluster))
        operator = Local(place, NAMESPACE, tmp_path / "operator.log")
        stack.callback(operator.close)
        operator.start()
        yield Scene(place, control_plane, operator)


def test_restored_backup_is_the_truth(scene: Scene, tmp_path: Path) -> None:
    """What was made since is gone, what was changed since is older, and versions of the future are never waited for."""
    scene.apply("invoices", 5)
    until(lambda: scene.runs_by("invoices", 5), what="the operator works")
    until(lambda: scene.services() == {"invoices", "invoices-all"})
    scene.control_plane.backup(tmp_path / "backup")

    scene.apply("invoices", 9)
    scene.apply("later", 9)
    until(lambda: scene.runs_by("invoices", 9) and scene.runs_by("later", 9), what="it goes on")
    for offload in range(20, 30):  # versions far ahead of the backup's
        scene.apply("later", offload)

    scene.control_plane.restore(tmp_path / "backup")
    scene.apply("letters", 7)
    until(lambda: scene.runs_by("letters", 7), what="watches are of the restored one")
    assert scene.runs_by("invoices", 5)
    scene.apply("invoices", 6)
    until(lambda: scene.runs_by("invoices", 6), what="a resource of the backup is followed")
    assert scene.services() == {"invoices", "invoices-all", "letters", "letters-all"}


def test_what_was_deleted_while_nobody_watched_is_gone_when_versions_are_forgotten(scene: Scene) -> None:
    """The API server answers 410 to a watch from before its own start; only a list shows what is missing."""
    for name in ("invoices", "letters"):
        scene.apply(name, 5)
    both = {"invoices", "invoices-all", "letters", "letters-all"}
    until(lambda: scene.services() == both, what="the operator works")
    until(lambda: scene.runs_by("letters", 5) and scene.runs_by("invoices", 5))
    scene.operator.pause()
    version = scene.version()
    scene.delete("letters")
    until(lambda: scene.services() == {"invoices", "invoices-all"}, what="Kubernetes removes the children")
    scene.control_plane.restart()
    assert scene.forgotten(version)
    scene.operator.go_on()

    scene.apply("later", 6)
    until(lambda: scene.runs_by("later", 6), what="a new one is seen")
    scene.operator.end(signal.SIGTERM)
    assert scene.services() == {"invoices", "invoices-all", "later", "later-all"}
