"""One object in the place of several that are equal, for values that nothing changes."""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def one(new: T, known: T) -> T:
    """Return the known one of two that are equal."""
    return known if known == new else new


def parts(new: Mapping[str, T], known: Mapping[str, T] | None) -> Mapping[str, T]:
    """Return the known one of two that are equal, or else the new one with the known keys and values of which it has
    equal ones.
    """
    if new == known:
        return known
    if not known:
        return new
    keys = {key: key for key in known}
    return {keys.get(key, key): one(value, known.get(key, value)) for key, value in new.items()}
