"""What others have set in a child beside what we want of it, by the record that the API server keeps of field managers.

Server-side apply sets back what we name, and leaves alone what we don't: a variable, a toleration or a container that
a person adds stays. Some of that does no harm, and some tools do it on purpose, so it is reported, with its author.
Webhooks aren't seen here: the API server counts what they change as ours.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ocr_operator.settings import FIELD_MANAGER
from ocr_wire import names

MAX_REPORTED: Final = 3
"""Fields that are named of one object; the rest is a number."""
MAX_LEVELS: Final = 32
_FREE: Final = ("spec.ipFamilies", "spec.ipFamilyPolicy", "spec.template.metadata")
"""What is left to people: see docs/ipv6.md; `kubectl rollout restart` is an annotation of the template."""
_TEMPLATE: Final = ("spec", "template")
_SEAL: Final = f"f:{names.ANNOTATION_DESIRED}"

Step = str | Mapping[str, Any]
"""A field's name, or the keys of an item of a list."""


def view(item: Mapping[str, Any]) -> dict[str, Any]:
    """The object as it is, without the bookkeeping of field managers but for what `reported` needs of it."""
    meta = dict(item["metadata"])
    if others := by_others(meta.pop("managedFields", None)):
        meta["managedFields"] = others
    return {**item, "metadata": meta}


def by_others(managed: object) -> list[Mapping[str, Any]]:
    """The entries of `metadata.managedFields` that matter here: of others, about the spec.

    One that has our seal, too, is of a tool that wrote the whole object, such as one that restores a backup.
    """
    found = []
    for each in map(_map, managed if isinstance(managed, list) else []):
        fields = _map(each.get("fieldsV1"))
        sealed = _SEAL in _map(_map(fields.get("f:metadata")).get("f:annotations"))
        ours = each.get("manager") == FIELD_MANAGER
        if "f:spec" in fields and not (ours or sealed or each.get("subresource")):
            found.append(each)
    return found


def reported(wanted: Mapping[str, Any], actual: Mapping[str, Any]) -> str:
    """The fields that are there and not in `wanted`, with their author; empty: none."""
    meta = _map(actual.get("metadata"))
    found: list[str] = []
    for entry in by_others(meta.get("managedFields")):
        fields = {"f:spec": _map(entry.get("fieldsV1")).get("f:spec")}
        for steps in _leaves(fields, ()):
            path = _path(steps)
            if _has(actual, steps) and not _has(wanted, steps) and not path.startswith(_FREE):
                found.append(f"{path} (by {str(entry.get('manager'))[:64]})")
    if not found:
        return ""
    more = f" and {len(found) - MAX_REPORTED} more" if len(found) > MAX_REPORTED else ""
    return f"{actual.get('kind')} {meta.get('name')} has also " + ", ".join(found[:MAX_REPORTED]) + more


def way_out(wanted: Mapping[str, Any], actual: Mapping[str, Any]) -> str:
    """Say what to do about what others have set where the API server refuses `wanted`, as it does a request above a
    limit of theirs; empty: they have set nothing.
    """
    added = reported(wanted, actual)
    advice = "remove that there, or have the resource say what goes with it (spec.resources, spec.template)"
    return f"{added}: {advice}" if added else ""


def overwrites_template(wanted: Mapping[str, Any], actual: Mapping[str, Any]) -> bool:
    """Return whether others have set what `wanted` sets in the template of the pods."""
    for entry in by_others(_map(actual.get("metadata")).get("managedFields")):
        fields = {"f:spec": {"f:template": _map(_map(entry.get("fieldsV1")).get("f:spec")).get("f:template")}}
        for steps in _leaves(fields, ()):
            if len(steps) > len(_TEMPLATE) and _has(actual, steps) and _has(wanted, steps):
                return True
    return False


def _leaves(fields: object, steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    """Each field that the entry owns; of an item that it owns as a whole, the item."""
    inner = _map(fields)
    deeper = {key: value for key, value in inner.items() if key != "."}
    if not deeper or len(steps) > MAX_LEVELS or ("." in inner and steps and not isinstance(steps[-1], str)):
        yield steps
        return
    for key, value in deeper.items():
        yield from _leaves(value, (*steps, _step(key)))


def _step(key: str) -> Step:
    kind, _, text = key.partition(":")
    if kind != "k":
        return text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # what keys of items are is up to who applied them
        return text
    return found if isinstance(found, Mapping) else text


def _path(steps: tuple[Step, ...]) -> str:
    parts = [f".{each}" if isinstance(each, str) else f"[{next(iter(each.values()), '')}]" for each in steps]
    return "".join(parts).lstrip(".")


def _has(value: Any, steps: tuple[Step, ...]) -> bool:
    """Return whether the field is there. An owner of one that isn't is on record, too: the API server takes fields away
    that don't go with a Service's type.
    """
    for step in steps:
        match step, value:
            case str(), Mapping() if step in value:
                value = value[step]
            case Mapping(), list() if item := next((each for each in value if _is(each, step)), None):
                value = item
            case _:
                return False
    return True


def _is(item: Any, keys: Mapping[str, Any]) -> bool:
    """Return whether the item has these keys; TCP is what the API server fills in."""
    return isinstance(item, Mapping) and all(
        item.get(key, "TCP" if key == "protocol" else None) == value for key, value in keys.items()
    )


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
