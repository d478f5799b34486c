"""Documents of released versions, and what other versions might make of them."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FROZEN = Path(__file__).parents[1] / "frozen"


def frozen(pattern: str) -> list[Path]:
    """Return the documents of that kind of all released versions."""
    return sorted(FROZEN.glob(f"*/{pattern}"))


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def newer(value: Any) -> Any:
    """Return a document of a newer version: every object in it, at every depth, has a field that nobody knows."""
    if isinstance(value, dict):
        return {key: newer(inner) for key, inner in value.items()} | {"fromTomorrow": {"x": [1, {"y": None}]}}
    if isinstance(value, list):
        return [newer(each) for each in value]
    return value


Place = tuple[str | int, ...]


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Yield the path of every field of every object."""
    parts: Any = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    for key, inner in parts:
        if isinstance(key, str):
            yield (*at, key)
        yield from places(inner, (*at, key))


def without(value: Any, place: Place) -> Any:
    """Return the document without one field."""
    changed = copy.deepcopy(value)
    inside = changed
    for key in place[:-1]:
        inside = inside[key]
    del inside[place[-1]]
    return changed


def with_value(value: Any, place: Place, new: Any) -> Any:
    """Return the document with another value in one field."""
    changed = copy.deepcopy(value)
    inside = changed
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = new
    return changed
