"""Documents with something odd in some places of them, for properties: a place is replaced, removed, put one level
deeper, repeated, or gets what stands in another place.
"""

import copy
from random import Random
from typing import Any, Final

from hypothesis import strategies as st

Path = tuple[Any, ...]

HUGE: Final[tuple[Any, ...]] = (
    "x" * 5000,
    "9" * 4000,
    "[" * 100_000,
    '{"a":' * 5000,
    [None] * 3000,
    {"a": [{}] * 500},
)
JSON: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 2**63, 10**30, 1e308, 0.5, "", "\x00", "é" * 70, "1e999999", "NaN"),
    *([], {}, [None], [[]], [{}], {"": None}, {"": {"": []}}, {"a\nb": 1}),
    *("٣", '{"gpus":[{"uuid":1}],"memoryBytes":-1}', "2026-13-45T99:99:99Z", "9999-12-31T23:59:59-23:59"),
    *HUGE,
)
"""Values that an API server can hand out, as far as types go."""


def nested(levels: int) -> Any:
    """An object in an object, and so on."""
    value: Any = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def places(value: Any, path: Path = ()) -> list[Path]:
    """All places in a document."""
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path, *(deeper for key, inner in entries for deeper in places(inner, (*path, key)))]


def at(document: Any, path: Path) -> Any:
    for each in path:
        document = document[each]
    return document


def damage(rng: Random, document: dict[str, Any], most: int = 3) -> dict[str, Any]:
    """Return the document with something odd in up to `most` places of it."""
    changed = copy.deepcopy(document)
    for _ in range(rng.randint(1, most)):
        there = [each for each in places(changed) if each]
        if not there:
            break
        *parents, last = rng.choice(there)
        target = at(changed, tuple(parents))
        match rng.choice(["replace", "replace", "remove", "wrap", "repeat", "swap"]):
            case "replace":
                target[last] = copy.deepcopy(rng.choice(JSON))
            case "remove":
                del target[last]
            case "wrap":
                target[last] = rng.choice([[target[last]], {"a": target[last]}])
            case "repeat":
                target[last] = [copy.deepcopy(target[last]) for _ in range(rng.choice([2, 40]))]
            case "swap":
                target[last] = copy.deepcopy(at(changed, rng.choice(there)))
    return changed


def damaged(document: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The document, damaged, as a strategy."""
    return st.randoms(use_true_random=False).map(lambda rng: damage(rng, document))
