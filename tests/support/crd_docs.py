"""The field tables of docs/crd.md, made from the definition."""

from collections.abc import Iterator
from typing import Any

MARK = "<!-- Made from crds/ocrdeployments.yaml: UPDATE_GOLDEN=1 pytest tests/unit/ocr_operator/test_crd.py -->\n"

Schema = dict[str, Any]


def render(schema: Schema) -> str:
    """Spec and status, an object a section, and the rules that span fields."""
    spec, status = schema["properties"]["spec"], schema["properties"]["status"]
    return (
        "\n".join([*_section("spec", spec, 2), *_rules(schema), *_section("status", status, 2)]).rstrip()
        + "\n"
    )


def _section(path: str, schema: Schema, level: int) -> Iterator[str]:
    """One object: what it is, a row a field, then its objects."""
    yield f"{'#' * level} {path}\n"
    yield f"{_text(schema)}\n"
    whole = schema.get("items", schema)
    live = path.startswith("spec")
    yield f"| field | type | default |{' live |' if live else ''} what |"
    yield f"| --- | --- | --- |{' --- |' if live else ''} --- |"
    nested = []
    for name, part in whole["properties"].items():
        if "properties" in part.get("items", part):
            nested.append((name, part))
        required = " (required)" if name in whole.get("required", []) else ""
        cells = [f"`{name}`{required}", _type(part), _default(part)]
        if live:
            cells.append("live" if is_live(part) else "")
        yield f"| {' | '.join([*cells, _cell(part)])} |"
    yield ""
    for name, part in nested:
        yield from _section(f"{path}.{name}{'[]' if 'items' in part else ''}", part, level + (level == 2))


def is_live(schema: Schema) -> bool:
    return str(schema["description"]).startswith("LIVE.")


def _text(schema: Schema) -> str:
    return str(schema["description"]).removeprefix("LIVE. ").strip()


def _cell(schema: Schema) -> str:
    return _text(schema).replace(" Changes replace the pods.", "").replace("|", "\\|")


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
    default = schema.get("default")
    match default:
        case None | {} | []:
            return ""
        case dict():
            return f"`{', '.join(default)}`"
        case bool():
            return f"`{str(default).lower()}`"
    return f"`{default}`"


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
