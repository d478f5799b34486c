"""Files that are applied again: unchanged ones change nothing, and of changed ones nothing stays behind.

Nothing runs here: there are no nodes, so pods wait, while resources have their children and a status.
"""

import contextlib
import functools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.tools.kubectl import environment
from ocr_operator.resources import spec as specs
from ocr_wire import names
from tests.support import cluster as support
from tests.support import keda, resources
from tests.support.operators import Local
from tests.support.paths import ROOT
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
WAYS = ["--server-side=false", "--server-side=true"]


class Applied:
    """The examples, each in a namespace of its own, applied in one way, with an operator at work on them."""

    def __init__(self, place: support.Place, way: str, namespaces: dict[str, str]) -> None:
        self.place, self.way, self._namespaces = place, way, namespaces

    def kubectl(self, verb: str, path: Path, *more: str) -> str:
        return self.place.kubectl(verb, "-n", self._namespaces[path.stem], "-f", str(path), *more)

    def differences(self, path: Path, way: str) -> str:
        """Return what `kubectl diff` prints; nothing, and status 0, where there are none."""
        done = subprocess.run(
            ["kubectl", "diff", "-n", self._namespaces[path.stem], "-f", str(path), way],
            env=environment(self.place.kubeconfig),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode < 2, done.stderr
        assert (done.returncode == 0) is (done.stdout == "")
        return done.stdout

    def objects(self, path: Path) -> list[dict[str, Any]]:
        """As they are stored."""
        found = json.loads(self.kubectl("get", path, "-o", "json", "--show-managed-fields"))
        objects: list[dict[str, Any]] = found.get("items", [found])
        return objects

    def worked_on(self, path: Path) -> bool:
        """Whether the operator has told of each resource as it is declared now, and autoscalers have scaled theirs."""
        objects = self.objects(path)
        least = {
            each["spec"]["scaleTargetRef"]["name"]: each["spec"]["minReplicas"]
            for each in objects
            if each["kind"] == "HorizontalPodAutoscaler"
        }
        return all(
            each.get("status", {}).get("observedGeneration") == each["metadata"]["generation"]
            and each["status"].get("conditions")
            and each["spec"]["replicas"] >= least.get(each["metadata"]["name"], 0)
            for each in objects
            if each["kind"] == names.KIND
        )

    def declared(self, path: Path) -> list[Any]:
        """What an apply may change: without what controllers write, and when."""
        return [
            (
                each["metadata"].get("generation"),
                each["metadata"].get("annotations"),
                each.get("spec"),
                [entry for entry in each["metadata"]["managedFields"] if "subresource" not in entry],
            )
            for each in self.objects(path)
        ]


@pytest.fixture(scope="module", params=WAYS)
def applied(
    control_plane: support.Place, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Applied]:
    place = control_plane
    if place.operator is not None:
        pytest.skip(f"the operator {place.operator} watches all namespaces of this cluster")
    with contextlib.ExitStack() as stack:
        stack.enter_context(keda.defined(place))
        namespaces = {each.stem: stack.enter_context(place.namespace("unchanged")) for each in EXAMPLES}
        here = Applied(place, request.param, namespaces)
        log = tmp_path_factory.mktemp("unchanged") / "operator.log"
        operator = Local(place, ",".join(namespaces.values()), log)
        stack.callback(operator.close)
        operator.start()
        for path in EXAMPLES:
            stack.callback(here.kubectl, "delete", path, "--wait=false")
            here.kubectl("apply", path, here.way)
        yield here


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_unchanged_when_it_is_applied_again(applied: Applied, path: Path) -> None:
    until(functools.partial(applied.worked_on, path), what="the operator has worked on it")
    count = len(list(yaml.safe_load_all(path.read_text(encoding="utf-8"))))
    # What was applied by the client, the server's way finds changed in one thing: the annotation that the client keeps.
    for way in WAYS if applied.way == WAYS[1] else WAYS[:1]:
        found = applied.differences(path, way)
        assert not found, found
    before = applied.declared(path)
    said = applied.kubectl("apply", path, applied.way)
    assert said.count("unchanged" if applied.way == WAYS[0] else "serverside-applied") == count, said
    assert applied.declared(path) == before


ALTERNATIVES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"cache": {"hostPath": {"path": "/models"}}}),
    ({"cache": {"hostPath": {"path": "/models"}}}, {}),
    ({"cache": {"hostPath": {"path": "/models"}}}, {"cache": {"emptyDir": {}}}),
    (
        {"cache": {"emptyDir": {"sizeLimit": "5Gi"}}},
        {"cache": {"persistentVolumeClaim": {"claimName": "weights"}}},
    ),
    (
        {"models": [resources.DEEPSEEK]},
        {"models": [{**resources.DEEPSEEK, "source": {"path": "/models/ocr"}}]},
    ),
    ({"gpu": {"sharing": "claim", "claim": {"driver": "gpu.example.com"}}}, {"gpu": {"sharing": "none"}}),
]
"""What a file says, and what it says then: of a choice of one, the other."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("one", "other"), ALTERNATIVES, ids=str)
def test_another_choice_takes_the_place_of_the_one_before(
    control_plane: support.Place, way: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    """A default that the API server had filled in beside the first one belongs to nobody, so nobody takes it away."""
    with control_plane.namespace("choices") as namespace:
        for spec in (one, other):
            body = resources.make_body(**spec)
            body["metadata"] = {"name": "invoices"}
            control_plane.kubectl("apply", "-n", namespace, way, "-f", "-", stdin=json.dumps(body))
        path = f"/apis/{names.API_VERSION}/namespaces/{namespace}/{names.PLURAL}/invoices"
        stored = specs.parse(control_plane.ask(path))
        assert isinstance(stored, specs.OcrDeployment)
        assert stored.spec == resources.make_deployment(**other).spec
