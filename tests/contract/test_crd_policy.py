"""OcrIdlePolicy: its definition, the types that the operator reads it with, and the live fields of resources agree."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from ocr_operator.resources import policies
from ocr_wire import names
from tests.contract import test_crd_spec as deployments
from tests.support import resources

LIVE = ("idle", "batching", "queue", "logLevel", "routing")


def without_defaults(schema: Any) -> Any:
    """A policy sets only what it says, so its live fields have no defaults; the types have them for the whole."""
    if not isinstance(schema, Mapping):
        return schema
    return {key: without_defaults(value) for key, value in schema.items() if key != "default"}


def of_types() -> dict[str, Any]:
    schema = msgspec.json.schema(policies.PolicySpec)
    properties: dict[str, Any] = deployments.simplified(schema, schema["$defs"])["properties"]
    return properties


def of_definition() -> dict[str, Any]:
    schema = resources.crd_schema(names.POLICY_PLURAL)["properties"]["spec"]
    properties: dict[str, Any] = deployments.simplified(schema, {})["properties"]
    return properties


def test_types_and_bounds_agree() -> None:
    assert without_defaults(of_types()) == without_defaults(of_definition())


@pytest.mark.parametrize("field", ["priority", "mode"])
def test_defaults_of_what_is_not_live_agree(field: str) -> None:
    assert of_types()[field]["default"] == of_definition()[field]["default"]


def test_default_time_zone_agrees() -> None:
    zones = [each["windows"]["items"]["properties"]["timeZone"] for each in (of_types(), of_definition())]
    assert [each["default"] for each in zones] == ["UTC", "UTC"]


@pytest.mark.parametrize("field", LIVE)
def test_live_fields_are_those_of_a_resource(field: str) -> None:
    resource = without_defaults(deployments.of_definition())["properties"]
    assert without_defaults(of_definition())[field] == resource[field]
    assert "default" not in str(of_definition()[field])


def test_live_fields_of_models_are_those_of_a_resource() -> None:
    whole = without_defaults(deployments.of_definition())["properties"]["models"]["items"]["properties"]
    ours = without_defaults(of_definition())["models"]["items"]["properties"]
    assert ours == {name: whole[name] for name in ("name", "idle", "priority", "preload")}


def test_names_agree() -> None:
    definition = resources.crd(names.POLICY_PLURAL)["spec"]
    assert definition["names"]["kind"] == names.POLICY_KIND
    assert definition["names"]["plural"] == names.POLICY_PLURAL
    assert definition["scope"] == "Cluster"


@pytest.mark.parametrize("case", resources.INVALID_POLICIES, ids=lambda case: case.id)
def test_operator_names_the_same_field(case: resources.Invalid) -> None:
    policy = policies.parse(case.body)
    assert policy.rejection is not None
    assert policy.rejection.reason == "InvalidPolicy"
    assert policy.rejection.message.startswith(case.field)


def test_every_rule_is_broken_once_with_the_same_words() -> None:
    rejections = [policies.parse(case.body).rejection for case in resources.INVALID_POLICIES]
    said = " ".join(each.message for each in rejections if each)
    rules = {rule["message"] for rule in deployments.rules(resources.crd_schema(names.POLICY_PLURAL))}
    assert rules
    assert {each for each in rules if each not in said} == set()
