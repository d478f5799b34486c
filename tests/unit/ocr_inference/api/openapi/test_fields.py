"""Tables of form fields say what their parsers take."""

from collections.abc import Iterator
from typing import Any

import pytest

from ocr_inference.api import schema
from ocr_inference.api.control import fields
from ocr_inference.errors import ApiError


def values(of: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Values at the bounds of a schema, and whether they are inside."""
    for word in of.get("enum", ()):
        yield word, True
    if "enum" in of:
        yield "nonsense", False
    if of.get("type") == "boolean":
        yield from (("true", True), ("false", True), ("perhaps", False))
    if "minimum" in of:
        yield from ((str(of["minimum"]), True), (str(of["minimum"] - 1), False))
    if "maximum" in of:
        yield from ((str(of["maximum"]), True), (str(of["maximum"] + 1), False))
    if of.get("type") == "integer":
        yield "1.5", False
    if "maxLength" in of:
        yield from (("1," * (of["maxLength"] // 2 - 1) + "1", True), ("1" * (of["maxLength"] + 1), False))


CASES = [
    (name, value, inside)
    for name, field in schema.FIELDS.items()
    for value, inside in values(dict(field.schema))
]


@pytest.mark.parametrize(("name", "value", "inside"), CASES, ids=lambda each: str(each)[:20])
def test_the_parser_of_forms_has_the_same_bounds(name: str, value: str, inside: bool) -> None:
    sent = {"find_term": "total", "custom_prompt": "Read."} | {name: value}
    if inside:
        schema.parse_ocr(sent)
    else:
        with pytest.raises(ApiError) as refused:
            schema.parse_ocr(sent)
        assert refused.value.param == name


def test_each_field_has_a_case() -> None:
    assert {name for name, _, _ in CASES} == set(schema.FIELDS)


@pytest.mark.parametrize(
    ("value", "inside"), [("-1", True), ("0", True), ("31536000", True), ("-0.5", False), ("31536001", False)]
)
def test_timeouts_have_the_same_bounds(value: str, inside: bool) -> None:
    number = float(value)
    schema_ = fields.FIELDS["timeout"].schema
    allowed = any(
        number == each["const"] if "const" in each else each["minimum"] <= number <= each["maximum"]
        for each in schema_["anyOf"]
    )
    assert allowed is inside
    if inside:
        fields.seconds({"timeout": value}, "timeout", never=True)
    else:
        with pytest.raises(ApiError):
            fields.seconds({"timeout": value}, "timeout", never=True)
