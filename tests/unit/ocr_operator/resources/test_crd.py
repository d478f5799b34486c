"""The definition keeps its promises to readers: everything described, everything bounded, LIVE means live."""

import copy
import os
from typing import Any

import pytest
import yaml

from ocr_operator.decide import manifests
from ocr_operator.resources import live_settings
from tests.support import crd_docs, resources
from tests.support.paths import ROOT

DEFAULTS = manifests.Defaults(image="ghcr.io/ocr-operator/ocr-inference:0.1.0")


SCHEMA = resources.crd_schema()
FIELDS = dict(crd_docs.fields(SCHEMA["properties"]["spec"], "spec")) | dict(
    crd_docs.fields(SCHEMA["properties"]["status"], "status")
)


@pytest.mark.parametrize("path", FIELDS)
def test_every_field_has_a_description(path: str) -> None:
    text = FIELDS[path].get("description", "")
    assert len(text) > 8
    assert text.endswith("."), "descriptions are sentences"


@pytest.mark.parametrize("path", FIELDS)
def test_everything_is_bounded(path: str) -> None:
    schema = FIELDS[path]
    match schema.get("type"):
        case "array":
            assert "maxItems" in schema
            assert "x-kubernetes-list-type" in schema
        case "string":
            assert "maxLength" in schema or "enum" in schema or schema.get("format") == "date-time"
        case "integer" if path.startswith("spec"):
            assert "minimum" in schema
            assert "maximum" in schema
        case "object" if "additionalProperties" in schema:
            assert "maxProperties" in schema
        case None:
            assert schema["x-kubernetes-int-or-string"]
            assert "maxLength" in schema


def test_only_the_template_admits_what_we_do_not_name() -> None:
    open_ended = {path for path, part in FIELDS.items() if "x-kubernetes-preserve-unknown-fields" in part}
    assert open_ended == {"spec.template.spec"}


BODY = resources.make_body(
    models=[
        {
            **resources.DEEPSEEK,
            "idle": {"offloadAfterSeconds": 5, "exitAfterSeconds": 5, "releaseAfterSeconds": 5},
        }
    ],
    gpu={"sharing": "shared"},
    cache={"hostPath": {"path": "/models"}},
    server={"image": "ocr:1", "apiKeysSecretName": "keys"},
)

CHANGES: dict[str, Any] = {
    "spec.models[].name": "other",
    "spec.models[].source.huggingFace.repo": "someone/else",
    "spec.models[].source.huggingFace.revision": "v2",
    "spec.models[].source": {"path": "/models/x"},
    "spec.models[].gpuMemory": "13Gi",
    "spec.gpu.products": ["NVIDIA-L40S"],
    "spec.gpu.runtimeClassName": "other",
    "spec.cache": {"emptyDir": {}},
    "spec.cache.hostPath.path": "/weights",
    "spec.server.image": "ocr:2",
    "spec.server.apiKeysSecretName": "more-keys",
    "spec.resources.requests.cpu": "750m",
    "spec.resources.requests.memory": "16Gi",
    "spec.resources.requests.ephemeral-storage": "20Gi",
    "spec.resources.limits.cpu": "4",
    "spec.resources.limits.memory": "24Gi",
    "spec.resources.limits.ephemeral-storage": "50Gi",
    "spec.template.metadata.labels": {"team": "billing"},
    "spec.template.metadata.annotations": {"team": "billing"},
    "spec.template.spec": {"priorityClassName": "high"},
}
"""A second valid value for fields that the schema alone gives no second value for."""

WITHOUT_EFFECT = {
    "spec.gpu.resourceName": "only for exclusive",
    "spec.gpu.claim.deviceClassName": "only for claim",
    "spec.gpu.claim.driver": "only for claim",
    "spec.gpu.claim.selectors": "only for claim",
    "spec.models[].engine": "changes the source with it",
}


def another_value(path: str, schema: dict[str, Any], now: Any) -> Any:
    if path in CHANGES:
        return CHANGES[path]
    if "enum" in schema:
        return next(value for value in schema["enum"] if value != now)
    if schema.get("type") == "integer":
        return schema["maximum"] if now != schema["maximum"] else schema["minimum"]
    if schema.get("type") == "boolean":
        return not now
    return None


def set_at(body: dict[str, Any], path: str, change: Any) -> dict[str, Any]:
    changed = copy.deepcopy(body)
    place: Any = changed
    *way, last = path.replace("[]", ".0").split(".")
    for step in way:
        place = place[int(step)] if step.isdigit() else place.setdefault(step, {})
    place[last] = change
    return changed


def value_at(body: Any, path: str, default: Any) -> Any:
    for step in path.replace("[]", ".0").split("."):
        body = body[int(step)] if step.isdigit() else body.get(step, {})
    return default if body == {} else body


CHANGEABLE = [
    path
    for path, schema in FIELDS.items()
    if path.startswith("spec.")
    and not path.endswith(("[]", "{}"))
    and path not in WITHOUT_EFFECT
    and another_value(path, schema, value_at(BODY, path, crd_docs.default(schema))) is not None
]


def test_enough_fields_are_changed() -> None:
    """Guards the tests below against a walk that finds nothing."""
    leaves = {
        path
        for path, schema in FIELDS.items()
        if path.startswith("spec.") and crd_docs.default(schema) is not None
    }
    parents = {path for path in leaves if any(other.startswith(f"{path}.") for other in FIELDS)}
    assert leaves - parents - set(WITHOUT_EFFECT) <= set(CHANGEABLE)
    assert len(CHANGEABLE) > 35


@pytest.mark.parametrize("path", CHANGEABLE)
def test_live_is_what_leaves_the_pod_template_alone(path: str) -> None:
    """LIVE in the description ⇔ no new pods; and what pods take part in reaches them as live settings."""
    schema = FIELDS[path]
    changed = set_at(BODY, path, another_value(path, schema, value_at(BODY, path, crd_docs.default(schema))))
    before, after = (resources.make_deployment(**body["spec"]) for body in (BODY, changed))
    old, new = (manifests.desired(each, DEFAULTS, "token")[-1]["spec"] for each in (before, after))
    live = "LIVE" in schema["description"].split(".")[0]
    if path == "spec.replicas":
        assert old["template"] == new["template"]
        assert old != new
        return
    assert (old == new) is live, schema["description"]
    if not path.startswith("spec.routing") and not path.endswith(".name"):
        assert (live_settings.values(before.spec) != live_settings.values(after.spec)) is live


def test_what_is_live_has_no_default_in_the_schema() -> None:
    """A default that the API server fills in would look like the resource's own word, and no policy would count."""
    live = [path for path, schema in FIELDS.items() if schema["description"].startswith("LIVE.")]
    assert len(live) > 20
    assert {path for path in live if FIELDS[path].get("default", {}) != {}} == set()


def test_what_is_in_a_list_has_no_default_in_the_schema() -> None:
    """`kubectl apply` compares lists as a whole: what the API server fills into an item differs from the file, so that
    an unchanged one would be "configured", in each `kubectl diff` and in GitOps, too.
    """
    assert crd_docs.filled_into_items(SCHEMA["properties"]["spec"]) == []


def test_field_that_is_added_to_a_released_definition_has_no_default_in_the_schema() -> None:
    """The API server would fill it into all stored resources that have the object around it, when they are read: what
    `kubectl diff` and GitOps then show was written by nobody. Such a default stands in the description.
    """
    frozen = ROOT / "tests" / "frozen" / "v0.1.0" / "chart" / "files" / "ocrdeployments.yaml"
    [version] = yaml.safe_load(frozen.read_text(encoding="utf-8"))["spec"]["versions"]
    released = {
        path
        for path, _ in crd_docs.fields(version["schema"]["openAPIV3Schema"]["properties"]["spec"], "spec")
    }
    assert len(released) > 50
    filled_in = {
        path
        for path, schema in FIELDS.items()
        if path.startswith("spec.")
        and "default" in schema
        and path not in released
        and path.rpartition(".")[0] in released | {"spec"}
    }
    assert filled_in == set()


# --- docs/crd.md --------------------------------------------------------------------------------------------------

PAGE = ROOT / "docs" / "crd.md"


def test_page_has_the_fields_of_the_definition() -> None:
    prose = PAGE.read_text(encoding="utf-8").partition(crd_docs.MARK)[0]
    wanted = f"{prose}{crd_docs.MARK}\n{crd_docs.render(SCHEMA)}"
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == wanted


@pytest.mark.parametrize("path", [path for path in FIELDS if not path.endswith(("[]", "{}"))])
def test_page_tells_every_field_and_which_are_live(path: str) -> None:
    """Looked up in the page itself, so that the test doesn't trust the code that made it."""
    parent, _, name = path.rpartition(".")
    section = PAGE.read_text(encoding="utf-8").partition(f"# {parent}\n")[2].partition("\n#")[0]
    [row] = [
        line for line in section.splitlines() if line.startswith((f"| `{name}` ", f"| `{name}` (required)"))
    ]
    assert ("| live |" in row) is FIELDS[path]["description"].startswith("LIVE.")


def test_page_shows_a_valid_resource() -> None:
    shown = PAGE.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    example = (ROOT / "examples" / "laptop.yaml").read_text(encoding="utf-8")
    assert shown == example.partition("\n")[2], "the page shows examples/laptop.yaml"
