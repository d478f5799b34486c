"""The definition that the API server enforces and the types that the operator reads say the same.

Every field, type, default, bound and enumeration is compared, and every rule that the definition states in
CEL is broken once, to see that the operator gives the same answer in the same words.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from ocr_operator.resources import spec as specs
from ocr_wire import names, quantity
from tests.support import crd_docs, resources

KEYWORDS = {
    "type", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
    "maxProperties", "required", "x-kubernetes-int-or-string",
}  # fmt: skip


def of_types() -> dict[str, Any]:
    """The schema that msgspec derives from `spec.Spec`, with references resolved and null taken as absent."""
    schema = msgspec.json.schema(specs.Spec, schema_hook=lambda kind: {"x-kubernetes-int-or-string": True})
    return simplified(schema, schema["$defs"])


def of_definition() -> dict[str, Any]:
    return simplified(own_schema(), {})


def own_schema() -> dict[str, Any]:
    """The definition's spec, without what Kubernetes itself says of a pod's spec."""
    spec: dict[str, Any] = copy.deepcopy(resources.crd_schema()["properties"]["spec"])
    spec["properties"]["template"]["properties"]["spec"].pop("properties")
    return spec


def simplified(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Only what both can say: an optional field is one that isn't required, a default is what is filled in."""
    if "anyOf" in schema and "x-kubernetes-int-or-string" not in schema:
        [only] = [each for each in schema["anyOf"] if each != {"type": "null"}]
        schema = {**only, **{key: value for key, value in schema.items() if key != "anyOf"}}
    if "$ref" in schema:
        schema = {**definitions[schema["$ref"].rpartition("/")[2]], **schema}
    plain = {key: value for key, value in schema.items() if key in KEYWORDS}
    if "x-kubernetes-int-or-string" in plain:
        plain = {"x-kubernetes-int-or-string": True}
    if "enum" in plain:
        plain = {"enum": sorted(plain["enum"])}
    if "pattern" in plain:
        plain["pattern"] = plain["pattern"].replace(r"\Z", "$")  # Python's way to say the end of the text
    plain = {key: value for key, value in plain.items() if value != []}
    if properties := schema.get("properties"):
        plain["properties"] = {name: simplified(part, definitions) for name, part in properties.items()}
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), Mapping) and schema[part]:
            plain[part] = simplified(schema[part], definitions)
    if (default := crd_docs.default(dict(schema))) is not None:
        plain["default"] = _filled(default, plain)
    return plain


def _filled(default: Any, schema: Mapping[str, Any]) -> Any:
    """A default with the defaults of its fields, as the API server fills them in, and without nulls."""
    if isinstance(default, tuple):
        return list(default)
    if not isinstance(default, Mapping):
        return default
    parts = schema.get("properties", {})
    below = {name: part["default"] for name, part in parts.items() if "default" in part}
    said = {name: value for name, value in default.items() if value is not None}
    return {name: _filled(value, parts.get(name, {})) for name, value in {**below, **said}.items()}


def without_empty_defaults(schema: Any) -> Any:
    """Drop defaults that say nothing: an object that is left out is as good as an empty one."""
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: without_empty_defaults(value) for key, value in schema.items() if (key, value) != ("default", {})
    }


def test_fields_types_defaults_bounds_and_enumerations_agree() -> None:
    assert without_empty_defaults(of_types()) == without_empty_defaults(of_definition())


def test_names_agree() -> None:
    definition = resources.crd()["spec"]
    [version] = definition["versions"]
    assert definition["group"] == names.GROUP
    assert version["name"] == names.VERSION
    assert definition["names"]["kind"] == names.KIND
    assert definition["names"]["plural"] == names.PLURAL


def rules(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield from schema.get("x-kubernetes-validations", [])
        for part in schema.values():
            yield from rules(part)


def _quantities(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("x-kubernetes-int-or-string"):
            yield schema
        for part in schema.values():
            yield from _quantities(part)


def test_quantities_have_one_pattern() -> None:
    found = list(_quantities(own_schema()))
    assert found
    assert {each["pattern"] for each in found} == {quantity.PATTERN}


@pytest.mark.parametrize("case", resources.INVALID, ids=lambda case: case.id)
def test_operator_names_the_same_field(case: resources.Invalid) -> None:
    outcome = specs.parse(case.body)
    assert isinstance(outcome, specs.InvalidSpec), outcome
    assert outcome.field == case.field
    assert outcome.message


def test_every_rule_is_broken_once_with_the_same_words() -> None:
    outcomes = [specs.parse(case.body) for case in resources.INVALID]
    said = {outcome.message for outcome in outcomes if isinstance(outcome, specs.InvalidSpec)}
    stated = {rule["message"] for rule in rules(resources.crd_schema())}
    on_quantities = {rule["message"] for each in _quantities(resources.crd_schema()) for rule in rules(each)}
    assert stated - on_quantities <= said
