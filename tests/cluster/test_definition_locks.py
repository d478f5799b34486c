"""Which changes of a definition lock stored resources: a real API server, and `tests.support.definition_locks`."""

import copy
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.support import cluster as support
from tests.support import definition_locks, definitions, resources
from tests.support.apiserver import Refused, request
from tests.support.paths import ROOT
from tests.support.waiting import until

pytestmark = pytest.mark.cluster

FROZEN = ROOT / "tests" / "frozen" / "v0.1.0"
Schema = dict[str, Any]
Change = Callable[[Schema], None]
WHOLE = "/apis/{group}/v1alpha1/namespaces/{namespace}/ocrdeployments"
SCALE, STATUS, LIVE = "/scale", "/status", ""
PATCHES: dict[str, dict[str, Any]] = {
    SCALE: {"spec": {"replicas": 3}},
    STATUS: {"status": {"phase": "Ready", "replicas": 1}},
    LIVE: {"spec": {"idle": {"offloadAfterSeconds": 7}}},
}
RULE = {"message": "is refused", "reason": "FieldValueInvalid"}


def spec(schema: Schema) -> Schema:
    found: Schema = schema["properties"]["spec"]
    return found


def with_rule(part: Schema, rule: str) -> None:
    part.setdefault("x-kubernetes-validations", []).append({**RULE, "rule": rule})


def root_rule(schema: Schema) -> None:
    with_rule(schema, "has(self.spec.logLevel)")


def spec_rule(schema: Schema) -> None:
    with_rule(spec(schema), "has(self.logLevel)")


def spec_required(schema: Schema) -> None:
    spec(schema)["required"].append("logLevel")


def spec_properties(schema: Schema) -> None:
    spec(schema)["maxProperties"] = 2


def spec_any_of(schema: Schema) -> None:
    spec(schema)["anyOf"] = [{"required": ["logLevel"]}]


def models_rule(schema: Schema) -> None:
    with_rule(spec(schema)["properties"]["models"], "self.size() > 4")


def model_rule(schema: Schema) -> None:
    with_rule(spec(schema)["properties"]["models"]["items"], "has(self.gpuMemory)")


def model_required(schema: Schema) -> None:
    spec(schema)["properties"]["models"]["items"]["required"].append("gpuMemory")


def batching_required(schema: Schema) -> None:
    part(schema, "batching")["required"] = ["maxPages"]


def gpu_enumeration(schema: Schema) -> None:
    spec(schema)["properties"]["gpu"]["properties"]["sharing"]["enum"].remove("none")


def batching_any_of(schema: Schema) -> None:
    part(schema, "batching")["anyOf"] = [{"required": ["maxPages"]}]


def part(schema: Schema, name: str) -> Schema:
    """Return a part of `spec`, without its default, which would have to fulfil all of it."""
    found: Schema = spec(schema)["properties"][name]
    found.pop("default")
    return found


def name_pattern(schema: Schema) -> None:
    spec(schema)["properties"]["models"]["items"]["properties"]["name"]["pattern"] = "^x$"


LOCKED: dict[Change, set[str]] = {
    root_rule: {SCALE, STATUS, LIVE},
    spec_rule: {SCALE, LIVE},
    spec_required: {SCALE, LIVE},
    spec_properties: {SCALE, LIVE},
    spec_any_of: {SCALE, LIVE},
}
"""What each change refuses of a resource that breaks it."""
UNNOTICED = (
    models_rule, model_rule, model_required, batching_required, gpu_enumeration, batching_any_of, name_pattern,
)  # fmt: skip


class Stored:
    """A resource of the released definition, under a group of its own."""

    def __init__(self, place: support.Place, namespace: str, group: str) -> None:
        self.place, self.group = place, group
        text = (FROZEN / "chart" / "files" / "ocrdeployments.yaml").read_text(encoding="utf-8")
        self.definition = yaml.safe_load(text.replace("ocr-operator.io", group))
        self.name = self.definition["metadata"]["name"]
        self.path = WHOLE.format(group=group, namespace=namespace)
        self.body: dict[str, Any] = {}

    @property
    def schema(self) -> Schema:
        found: Schema = self.definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        return found

    def serve(self) -> None:
        """Have the API server know the definition as it is now, with a field that tells that it does."""
        mark = {"type": "object", "description": "Marks this schema."}
        served = copy.deepcopy(self.definition)
        count = len(self.body)
        [version] = served["spec"]["versions"]
        version["schema"]["openAPIV3Schema"]["properties"][f"mark{count}"] = mark
        self.place.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(served))
        definitions.established(self.place.kubectl, f"crd/{self.name}")
        until(functools.partial(self._serves, f"mark{count}"), what="the new schema is served")

    def create(self, body: dict[str, Any]) -> None:
        text = json.dumps(body).replace("ocr-operator.io", self.group)
        self.body = self.place.ask(self.path, json.loads(text))

    def refused(self) -> set[str]:
        """Return which patches the API server doesn't take."""
        return {part for part in PATCHES if not self._takes(part)}

    def _takes(self, part: str) -> bool:
        path = f"{self.path}/{self.body['metadata']['name']}{part}"
        try:
            request(self.place.kubeconfig, "PATCH", path, PATCHES[part], "application/merge-patch+json")
        except Refused as refusal:
            if refusal.status != 422:
                raise
            return False
        return True

    def _serves(self, mark: str) -> bool:
        body = {
            "apiVersion": f"{self.group}/v1alpha1", "kind": "OcrDeployment", "metadata": {"name": "probe"},
            "spec": {}, mark: {},
        }  # fmt: skip
        try:
            self.place.ask(f"{self.path}?dryRun=All&fieldValidation=Strict", body)
        except Refused as refusal:
            return "unknown field" not in refusal.message and refusal.status == 422
        return False


@pytest.fixture
def stored(control_plane: support.Place, request: pytest.FixtureRequest) -> Iterator[Stored]:
    """Everything that `laptop` says, in the first definition."""
    with control_plane.namespace("locks") as namespace:
        here = Stored(control_plane, namespace, f"{namespace}.test")
        try:
            here.serve()
            documents = yaml.safe_load_all((FROZEN / "resources.yaml").read_text(encoding="utf-8"))
            here.create(next(each for each in documents if each["metadata"]["name"] == "laptop"))
            yield here
        finally:
            definitions.remove(control_plane.kubectl, f"crd/{here.name}")


@pytest.mark.parametrize("change", [*LOCKED, *UNNOTICED], ids=lambda change: change.__name__)
def test_a_change_that_locks_is_found_and_no_other(stored: Stored, change: Change) -> None:
    released = copy.deepcopy(stored.schema)
    change(stored.schema)
    stored.serve()
    assert stored.refused() == LOCKED.get(change, set())
    assert bool(definition_locks.locking(released, stored.schema)) is (change in LOCKED)
    fresh = {**stored.body, "metadata": {"name": "fresh"}}
    fresh.pop("status", None)
    with pytest.raises(Refused) as refusal:
        stored.place.ask(f"{stored.path}?dryRun=All", fresh)
    assert refusal.value.status == 422, "the change is one that the resource breaks"


def test_resources_of_the_first_definition_take_all_patches_in_todays(stored: Stored) -> None:
    stored.definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = resources.crd_schema()
    stored.serve()
    assert stored.refused() == set()
