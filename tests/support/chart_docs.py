"""What is made from the chart's values.yaml: the table of its README, and the defaults of keys that are absent.
Beside it, what the schemas of values have of Kubernetes.

A line `# -- text` describes the value below it, and so do the comment lines after it; `# @default -- text` stands for a
default that a table has no room for. An object with such a comment is one value; any other is only a group of values.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support import chart_schema
from tests.support.paths import ROOT

CHART: Final = ROOT / "charts" / "ocr-operator"
VALUES: Final = CHART / "values.yaml"
README: Final = CHART / "README.md"
DEFAULTS: Final = CHART / "templates" / "_defaults.tpl"
MARK: Final = "<!-- Made from values.yaml: make chart -->\n"

_KEY: Final = re.compile(r"( *)([\w.]+):(?: .*)?")


@dataclass(frozen=True)
class Value:
    """A value that people set, by its dotted name."""

    name: str
    default: Any
    text: str
    shown: str
    """Its default in the table, where that isn't the default itself."""


def values(source: str) -> list[Value]:
    """List them in the order of the file."""
    return list(_below(yaml.safe_load(source), "", _comments(source)))


def _below(group: dict[str, Any], prefix: str, comments: dict[str, tuple[str, str]]) -> Iterator[Value]:
    for key, default in group.items():
        name = f"{prefix}{key}"
        if isinstance(default, dict) and default and name not in comments:
            yield from _below(default, f"{name}.", comments)
        else:
            yield Value(name, default, *comments.get(name, ("", "")))


def _comments(source: str) -> dict[str, tuple[str, str]]:
    """Text and shown default of each key that has a comment above it."""
    found: dict[str, tuple[str, str]] = {}
    path: list[tuple[int, str]] = []
    text, shown = "", ""
    for line in source.splitlines():
        bare = line.strip()
        if bare.startswith("# @default -- "):
            shown = bare.removeprefix("# @default -- ")
        elif bare.startswith("# -- "):
            text = bare.removeprefix("# -- ")
        elif bare.startswith("# "):
            text = f"{text} {bare.removeprefix('# ')}" if text else ""
        elif key := _KEY.fullmatch(line):
            path = [each for each in path if each[0] < len(key[1])] + [(len(key[1]), key[2])]
            if text or shown:
                found[".".join(name for _, name in path)] = (text, shown)
            text, shown = "", ""
        else:
            text, shown = "", ""
    return found


def table(source: str) -> str:
    rows = ["| value | default | what |", "| --- | --- | --- |"]
    for each in values(source):
        default = each.shown or f"`{_plain(each.default)}`"
        rows.append(f"| `{each.name}` | {default} | {each.text} |".replace("|  |", "| |"))
    return "\n".join(rows) + "\n"


def _plain(value: Any) -> str:
    """A value as it stands in a YAML file, on one line."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, dict) and value:
        pairs = (f"{key}: {json.dumps(item)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    return json.dumps(value)


def readme(before: str, source: str) -> str:
    """The README with the table of now."""
    head, _, rest = before.partition(MARK)
    _, heading, tail = rest.partition("\n## ")
    return f"{head}{MARK}\n{table(source)}{heading}{tail}"


def defaults(source: str) -> str:
    """The template that has what an absent key stands for: a value of the last version may not have it, and null takes
    a key away. What is a list or a map and isn't empty stays away then: that is how people take it away.
    """
    known: dict[str, Any] = {}
    for each in values(source):
        if isinstance(each.default, list | dict) and each.default:
            continue
        *groups, key = each.name.split(".")
        place = known
        for group in groups:
            place = place.setdefault(group, {})
        place[key] = each.default
    body = yaml.safe_dump(known, sort_keys=False, allow_unicode=True)
    return (
        "{{/* Made from values.yaml: make chart. What absent keys stand for. */}}\n"
        f'{{{{- define "ocr-operator.defaults" -}}}}\n{body}{{{{- end }}}}\n'
    )


def generated() -> dict[Path, str]:
    """What the files should be."""
    source = VALUES.read_text(encoding="utf-8")
    return {
        README: readme(README.read_text(encoding="utf-8"), source),
        DEFAULTS: defaults(source),
        **chart_schema.generated(),
    }


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
