"""Changes of a definition that lock resources which an older one admitted: they can't be scaled or reported on.

The API server checks only what an update changes (ratcheting of validation): a part of the object that stays as it is
may break newer rules. `kubectl scale` changes `spec`, so what `spec` as a whole must fulfil is checked, and so is what
the whole object must; a part of `spec` is left alone. `tests/cluster/test_definition_locks.py` shows each of them on
a real API server.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

_BOUNDS: Final = ("maxProperties", "minProperties", "maxLength", "minLength", "maxItems", "minItems")
_RANGES: Final = ("maximum", "minimum", "pattern", "format", "type", "multipleOf", "uniqueItems")
_COMPOSED: Final = ("allOf", "anyOf", "oneOf", "not")


def locking(released: Schema, now: Schema) -> list[str]:
    """Return what the schema `now` demands anew of a whole object, or of all of `spec` or in `status`, in words.

    Both are the `openAPIV3Schema` of a version. Of `status` every part counts: an older operator writes it.
    """
    found = list(_demands(released, now, "the object"))
    parts = [each.get("properties", {}) for each in (released, now)]
    found += _demands(parts[0].get("spec", {}), parts[1].get("spec", {}), "spec")
    return found + list(_everywhere(parts[0].get("status", {}), parts[1].get("status", {}), "status"))


def _everywhere(released: Schema, now: Schema, path: str) -> Iterator[str]:
    yield from _demands(released, now, path)
    for name, part in now.get("properties", {}).items():
        if name in released.get("properties", {}):
            yield from _everywhere(released["properties"][name], part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(now.get(key), Mapping) and isinstance(released.get(key), Mapping):
            yield from _everywhere(released[key], now[key], f"{path}[]")


def _demands(released: Schema, now: Schema, path: str) -> Iterator[str]:
    """Yield what one part demands of itself, not of the parts in it."""
    for name in set(now.get("required", ())) - set(released.get("required", ())):
        yield f"{path} requires {name}"
    known = {" ".join(rule["rule"].split()) for rule in released.get("x-kubernetes-validations", ())}
    for rule in now.get("x-kubernetes-validations", ()):
        if (text := " ".join(rule["rule"].split())) not in known:
            yield f"{path} has the rule {text}"
    if gone := set(released.get("enum", ())) - set(now.get("enum", released.get("enum", ()))):
        yield f"{path} refuses {', '.join(sorted(map(str, gone)))}"
    if "enum" in now and "enum" not in released:
        yield f"{path} has an enumeration"
    for key in (*_BOUNDS, *_RANGES, *_COMPOSED):
        if key in now and now[key] != released.get(key) and not _is_looser(key, released.get(key), now[key]):
            yield f"{path} has {key}: {now[key]}"


def _is_looser(key: str, before: Any, after: Any) -> bool:
    """Whether a bound admits more than before; of what can't be compared, a change is stricter."""
    if not isinstance(before, int) or not isinstance(after, int):
        return False
    return after > before if key.startswith("max") else after < before
