"""Bounds of the part of a resource that has no schema, where its author may put anything: passes work on all of it."""

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

MAX_DEPTH: Final = 64
"""Levels of `spec.template.spec`; a PodSpec has about 15."""
MAX_VALUES: Final = 20_000
"""Values in it; a PodSpec with thirty containers has some thousands. Each pass merges, hashes and compares all of them:
450,000 fit into an object, and cost 0.7 s of a pass that holds up all others.
"""
MAX_CHARACTERS: Final = 512 * 1024
"""Characters of all texts in it, keys included."""


def excess(body: Mapping[str, Any]) -> str:
    """Return how much more `spec.template.spec` is than is taken; empty where it isn't.

    Costs no more than what is allowed: it stops at the first bound.
    """
    level: list[object] = [_template_spec(body)]
    values = characters = 0
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for outer in level:
            match outer:
                case str():
                    characters += len(outer)
                case dict():
                    characters += sum(map(len, islice(outer, MAX_VALUES)))
                    inner += outer.values()
                case list():
                    inner += outer
            if values + len(inner) > MAX_VALUES:
                return f"has more than {MAX_VALUES} values"
            if characters > MAX_CHARACTERS:
                return f"has more than {MAX_CHARACTERS} characters"
        values, level = values + len(inner), inner
        if not level:
            return ""
    return f"is nested deeper than {MAX_DEPTH} levels"


def _template_spec(body: Mapping[str, Any]) -> object:
    """Return the part that has no schema; None where what is around it isn't as it should be."""
    found: object = body
    for field in ("spec", "template", "spec"):
        found = found.get(field) if isinstance(found, Mapping) else None
    return found
