"""Pod specs with one value of the wrong kind, made from Kubernetes' own definition of a PodSpec."""

import random
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ocr_wire import names

Path = tuple[str | int, ...]

ODD: Final[tuple[object, ...]] = (
    "x",
    "30",
    1,
    0,
    -1,
    1.5,
    30.0,
    True,
    None,
    [],
    {},
    ["x"],
    [1],
    {"a": "b"},
    {"a": 1},
    "12Gigs",
    "1e3",
    "0.5",
)

_SCALARS: Final = {"string": names.CONTAINER, "integer": 1, "boolean": True}
_KNOWN: Final = {"Quantity": "1Gi", "IntOrString": 80, "ObjectMeta": {"labels": {"a": "b"}}}


def sample(definitions: Mapping[str, Any], name: str = "io.k8s.api.core.v1.PodSpec") -> Any:
    """Return a spec that has every field, each with a value of its type."""
    return _sample(definitions[name], definitions)


def _sample(schema: dict[str, Any], definitions: Mapping[str, Any]) -> Any:
    [schema] = schema.get("allOf", [schema])
    name = schema.get("$ref", "").rpartition("/")[2]
    if name:
        known = _KNOWN.get(name.rpartition(".")[2])
        return _sample(definitions[name], definitions) if known is None else known
    if "enum" in schema:
        return schema["enum"][0]
    if "items" in schema:
        return [_sample(schema["items"], definitions)]
    if "additionalProperties" in schema:
        return {"k": _sample(schema["additionalProperties"], definitions)}
    if schema["type"] != "object":
        return _SCALARS[schema["type"]]
    parts = schema.get("properties", {})
    return {name: _sample(part, definitions) for name, part in parts.items() if name != "ephemeralContainers"}


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in a spec."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from paths(part, (*path, key))


def only(spec: Any, path: Path, value: object) -> Any:
    """Return what leads to one place of the spec, with another value there; items of lists keep their names."""
    if not path:
        return value
    key, *rest = path
    part = only(spec[key], tuple(rest), value)
    if isinstance(key, int):
        return [part]
    named = {"name": spec["name"]} if "name" in spec else {}
    return {**named, key: part}


def some(definitions: Mapping[str, Any], count: int, seed: int) -> Iterator[tuple[Path, object, Any]]:
    """Yield places, odd values and the specs that have them."""
    rng, whole = random.Random(seed), sample(definitions)
    places = list(paths(whole))
    for _ in range(count):
        path, value = rng.choice(places), rng.choice(ODD)
        yield path, value, only(whole, path, value)
