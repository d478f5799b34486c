"""The field tables of docs/crd.md and docs/crd-idle-policy.md, made from the definitions."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.support import pod_schema


def _mark(plural: str, test: str) -> str:
    page = f"tests/unit/ocr_operator/resources/{test}.py"
    return f"<!-- Made from crds/{plural}.yaml: UPDATE_GOLDEN=1 pytest {page} -->\n"


MARK = _mark("ocrdeployments", "test_crd")
POLICY_MARK = _mark("ocridlepolicies", "test_crd_policy")

Schema = dict[str, Any]
TOLD = re.compile(r" Default: (\S+)\.$")
"""Defaults of live fields stand in descriptions: filled in by the schema, they would look like the resource's own.
So do those of items of lists: filled in, they would differ from the file at each `kubectl apply`."""


def default(schema: Schema) -> Any:
    """As the schema fills it in, or as the operator does and the description tells; None if there is none."""
    told = TOLD.search(str(schema.get("description", "")))
    return yaml.safe_load(told[1]) if told else schema.get("default")


def fields(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Every field below `schema`, items of lists as `[]`, with its own schema; Kubernetes' own fields aren't ours."""
    if pod_schema.OPEN in schema:
        return
    for name, part in schema.get("properties", {}).items():
        yield f"{path}.{name}", part
        yield from fields(part, f"{path}.{name}")
    if "items" in schema:
        yield f"{path}[]", schema["items"]
        yield from fields(schema["items"], f"{path}[]")
    if isinstance(extra := schema.get("additionalProperties"), dict):
        yield f"{path}{{}}", extra


def stored(schema: Schema, value: Any) -> Any:
    """Return what the API server makes of a value: with the defaults of the schema in all objects that are there."""
    if isinstance(value, list):
        return [stored(schema.get("items", {}), each) for each in value]
    if not isinstance(value, dict):
        return value
    parts = schema.get("properties", {})
    absent = {
        name: part["default"] for name, part in parts.items() if "default" in part and name not in value
    }
    return {name: stored(parts.get(name, {}), each) for name, each in (value | absent).items()}


def filled_into_items(schema: Schema) -> list[str]:
    """Return the fields of items of lists that have a default in the schema."""
    return [path for path, part in fields(schema, "spec") if "[]" in path and "default" in part]


def render(schema: Schema, *, live: bool = True) -> str:
    """Spec and status, an object a section, and the rules that span fields; `live` for a column that says it."""
    spec, status = schema["properties"]["spec"], schema["properties"]["status"]
    return (
        "\n".join(
            [*_section("spec", spec, 2, live), *_rules(schema), *_section("status", status, 2, live=False)]
        ).rstrip()
        + "\n"
    )


def _section(path: str, schema: Schema, level: int, live: bool) -> Iterator[str]:
    """One object: what it is, a row a field, then its objects."""
    yield f"{'#' * level} {path}\n"
    yield f"{_text(schema)}\n"
    whole = schema.get("items", schema)
    yield f"| field | type | default |{' live |' if live else ''} what |"
    yield f"| --- | --- | --- |{' --- |' if live else ''} --- |"
    nested = []
    for name, part in whole["properties"].items():
        if "properties" in part.get("items", part) and pod_schema.OPEN not in part:
            nested.append((name, part))
        required = " (required)" if name in whole.get("required", []) else ""
        cells = [f"`{name}`{required}", _type(part), _default(part)]
        if live:
            cells.append("live" if is_live(part) else "")
        yield f"| {' | '.join([*cells, _cell(part)])} |"
    yield ""
    for name, part in nested:
        yield from _section(
            f"{path}.{name}{'[]' if 'items' in part else ''}", part, level + (level == 2), live
        )


def is_live(schema: Schema) -> bool:
    return str(schema["description"]).startswith("LIVE.")


def _text(schema: Schema) -> str:
    return str(schema["description"]).removeprefix("LIVE. ").strip()


def _cell(schema: Schema) -> str:
    text = TOLD.sub("", _text(schema))
    return text.replace(" Changes replace the pods.", "").replace("|", "\\|")


def _type(schema: Schema) -> str:
    match schema:
        case {"enum": values}:
            text = " \\| ".join(f"`{value}`" for value in values)
        case {"x-kubernetes-int-or-string": True}:
            text = "quantity"
        case {"type": "integer", "minimum": low, "maximum": high}:
            text = f"integer, {low} to {high}"
        case {"type": "array", "maxItems": most, "items": items}:
            text = f"list of {schema.get('minItems', 0)} to {most}" + (
                "" if "properties" in items else " strings"
            )
        case {"type": "string", "format": "date-time"}:
            text = "time"
        case {"type": "string", "maxLength": most}:
            text = f"string, up to {most}"
        case {"type": "object", "maxProperties": most}:
            text = f"map of up to {most}"
        case _:
            text = str(schema["type"])
    return text


def _default(schema: Schema) -> str:
    match value := default(schema):
        case None | {} | []:
            return ""
        case dict():
            return f"`{', '.join(value)}`"
        case bool():
            return f"`{str(value).lower()}`"
    return f"`{value}`"


def _rules(schema: Schema) -> Iterator[str]:
    yield "## Rules that the API server checks\n"
    for path, rule in _found(schema, ""):
        yield f"- {f'`{path}`: ' if path else ''}{rule['message']}."
    yield ""


def _found(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    for rule in schema.get("x-kubernetes-validations", []):
        yield f"{path}{rule.get('fieldPath', '')}", rule
    for name, part in schema.get("properties", {}).items():
        yield from _found(part, f"{path}.{name}".lstrip("."))
    if "items" in schema:
        yield from _found(schema["items"], f"{path}[]")
