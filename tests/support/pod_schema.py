"""The schema of `spec.template.spec`, made from Kubernetes' own definition of a PodSpec.

It refuses what no version can take, such as a number where a text belongs, and nothing else: an object may have fields
that it doesn't name, as newer versions do, and null is a value everywhere, since it removes one.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

Schema = dict[str, Any]

OPEN: Final = "x-kubernetes-preserve-unknown-fields"
"""Of an object, and of nothing below it: each object needs its own."""
QUANTITY: Final = r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
"""What every quantity must look like, in the words of the API server's refusal. `cpu: 0.5`, a number, is one, too."""
WHOLE: Final = frozenset({"ephemeralContainers", "metadata"})
"""Not looked into: the first has no place in a template, the second is another kind's."""
INDENT: Final = 22
WIDTH: Final = 120
_NEXT: Final = "            status:\n"


def mark(version: str) -> str:
    """Return the line above the generated part; `version` is `1.36`."""
    return (
        f"{' ' * INDENT}# Made from the PodSpec of Kubernetes {version}: UPDATE_GOLDEN=1 pytest "
        "tests/cluster/test_templates.py\n"
    )


def version_of(text: str) -> str:
    """Return the version of Kubernetes that a definition was made from."""
    found = re.search(r"# Made from the PodSpec of Kubernetes (\S+):", text)
    assert found is not None
    return found[1]


def make(definitions: Mapping[str, Any]) -> Schema:
    """Return the properties of a PodSpec; `definitions` are the schemas of an API server's OpenAPI 3 document."""
    made: Schema = _made(definitions["io.k8s.api.core.v1.PodSpec"], definitions)["properties"]
    return made


def _made(schema: Schema, definitions: Mapping[str, Any]) -> Schema:
    [schema] = schema.get("allOf", [schema])
    if (name := schema.get("$ref", "").rpartition("/")[2]) != "":
        if name.endswith(".Quantity"):
            return {OPEN: True, "nullable": True, "pattern": QUANTITY}
        if name.endswith(".IntOrString"):
            return {"x-kubernetes-int-or-string": True, "nullable": True}
        return _made(definitions[name], definitions)
    made: Schema = {"type": schema["type"], "nullable": True}
    if "items" in schema:
        made["items"] = _made(schema["items"], definitions)
    if "additionalProperties" in schema:
        made["additionalProperties"] = _made(schema["additionalProperties"], definitions)
    elif made["type"] == "object":
        made[OPEN] = True
        made["properties"] = {
            name: {OPEN: True, "nullable": True} if name in WHOLE else _made(part, definitions)
            for name, part in schema.get("properties", {}).items()
        }
    return made


def render(properties: Schema) -> str:
    """Return it as YAML: a line or a paragraph for each field of a pod and of a container."""
    lines = [f"{' ' * INDENT}properties:"]
    for name, schema in properties.items():
        if name in ("containers", "initContainers"):
            head = {**schema, "items": {**schema["items"], "properties": {}}}
            lines += [f"{' ' * (INDENT + 2)}{name}:"]
            lines += [
                f"{' ' * (INDENT + 4)}{key}: {_flow(value)}" for key, value in head.items() if key != "items"
            ]
            lines += [f"{' ' * (INDENT + 4)}items:"]
            lines += [
                f"{' ' * (INDENT + 6)}{key}: {_flow(value)}"
                for key, value in head["items"].items()
                if key != "properties"
            ]
            lines += [f"{' ' * (INDENT + 6)}properties:"]
            for field, part in schema["items"]["properties"].items():
                lines += _paragraph(field, part, INDENT + 8)
        else:
            lines += _paragraph(name, schema, INDENT + 2)
    return "\n".join(lines) + "\n"


def _paragraph(name: str, schema: Schema, indent: int) -> Iterator[str]:
    first, more = " " * indent, " " * (indent + 2)
    text = f"{name}: {_flow(schema)}"
    yield from textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=more,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _flow(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{_key(key)}: {_flow(part)}" for key, part in value.items()) + "}"
    return f"'{value}'" if value == QUANTITY else str(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z-]+", key) else f"'{key}'"


def replaced(text: str, version: str, properties: Schema) -> str:
    """Return the text of a definition with another generated part."""
    before, _, after = text.partition(mark(version_of(text)))
    _, status, after = after.partition(_NEXT)
    return f"{before}{mark(version)}{render(properties)}{status}{after}"
