"""The operator's process on a real API server that breaks its watches, and has a resource that is made to do harm."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocr_wire import names
from tests.support import cluster as support
from tests.support.apiserver import Refused
from tests.support.gate import Gate, gated
from tests.support.operators import Local
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

LEVELS = 1500


@dataclasses.dataclass(frozen=True)
class Scene:
    """An operator that reaches its API server through a gate, and a namespace of its own."""

    place: support.Place
    namespace: str
    gate: Gate
    operator: Local

    def apply(self, name: str, template: str = "{}") -> None:
        """Create a resource without a GPU; `template` is JSON."""
        spec = '{"models":[{"name":"pp-ocr","engine":"rapidocr"}],"gpu":{"sharing":"none"},"template":'
        head = json.dumps(
            {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}}
        ).removesuffix("}")
        self.kubectl("create", "-f", "-", stdin=f'{head},"spec":{spec}{{"spec":{template}}}}}}}')

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self.place.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def services(self, name: str) -> dict[str, str]:
        """Those of a resource: name and UID."""
        path = f"/api/v1/namespaces/{self.namespace}/services?labelSelector={names.LABEL_DEPLOYMENT}%3D{name}"
        return {each["metadata"]["name"]: each["metadata"]["uid"] for each in self.place.ask(path)["items"]}

    def deployment(self, name: str) -> Any:
        with contextlib.suppress(Refused):
            return self.place.ask(f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{name}")

    def condition(self, name: str, type_: str, field: str) -> str:
        path = f"{{.status.conditions[?(@.type=={json.dumps(type_)})].{field}}}"
        return self.kubectl("get", "ocr", name, "-o", f"jsonpath={path}")


@pytest.fixture
def scene(control_plane: support.Place, tmp_path: Path) -> Iterator[Scene]:
    if control_plane.operator is not None:
        pytest.skip(f"the operator {control_plane.operator} watches all namespaces of this cluster")
    with (
        control_plane.namespace("harm") as namespace,
        gated(control_plane.kubeconfig, tmp_path) as (gate, kubeconfig),
    ):
        through = dataclasses.replace(control_plane, kubeconfig=kubeconfig)
        operator = Local(through, namespace, tmp_path / "operator.log")
        try:
            yield Scene(control_plane, namespace, gate, operator)
        finally:
            operator.close()


def test_resource_that_was_deleted_while_the_watches_were_broken_is_not_made_again(scene: Scene) -> None:
    scene.operator.start()
    scene.apply("gone")
    until(lambda: scene.deployment("gone") and len(scene.services("gone")) == 2, what="it has children")

    scene.gate.shut()
    scene.kubectl("delete", "ocr", "gone")
    until(lambda: not scene.services("gone"), 120, what="the garbage collector has removed them")
    scene.gate.reopen()
    scene.apply("later")
    until(lambda: scene.deployment("later"), what="the operator sees again")

    assert not scene.services("gone")
    assert not scene.deployment("gone")


@pytest.mark.parametrize("running", [True, False])
def test_resource_nested_a_thousand_deep_is_told_and_stops_no_other(scene: Scene, running: bool) -> None:
    if running:
        scene.operator.start()
    scene.apply("deep", '{"a":' * LEVELS + "1" + "}" * LEVELS)
    scene.apply("well")
    if not running:
        scene.operator.start()

    until(lambda: scene.deployment("well"), what="the other one has its child")
    until(lambda: scene.condition("deep", "Stalled", "status") == "True", what="it is told")
    assert "spec.template.spec" in scene.condition("deep", "Stalled", "message")
    assert scene.deployment("deep") is None
    events = scene.kubectl("get", "events", "--field-selector=involvedObject.name=deep")
    assert "InvalidSpec" in events
