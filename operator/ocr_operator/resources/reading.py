"""Tolerant reading of raw JSON: an absent or oddly typed field reads as "not there", and everything is bounded.

Objects are `dict`s as decoders make them: whether something is any `Mapping` takes ten times as long to find out, and
hundreds of pods are read at a time.
"""

from collections.abc import Mapping
from typing import Any, Final

MAX_ITEMS: Final = 64
"""Containers, taints, tolerations and gates read of one object; the API server's own limits are near this."""
MAX_TEXT: Final = 1024
"""Messages of containers and of the scheduler are cut here."""
MAX_ENTRIES: Final = 1024
"""Labels and annotations read of one object."""


def mapping(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def mappings(raw: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Return the mappings of a list."""
    value = raw.get(key)
    return [each for each in value[:MAX_ITEMS] if isinstance(each, dict)] if isinstance(value, list) else []


def text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def strings(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    pairs = list(value.items())[:MAX_ENTRIES]
    return {key: text for key, text in pairs if isinstance(key, str) and isinstance(text, str)}


def count(raw: Mapping[str, Any], key: str, default: int = 0) -> int:
    value = raw.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default
