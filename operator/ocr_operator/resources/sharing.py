"""One object in the place of several that are equal, for values that nothing changes."""

from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")

LARGE_BYTES: Final = 64 * 1024

LEVELS: Final = 12
"""Levels that are looked at for equal parts: a pod template has about as many. Each one compares all that is below it,
so a hostile object of many levels would hold up everything else.
"""


def one(new: T, known: T) -> T:
    """Return the known one of two that are equal."""
    return known if known == new else new


def alike(new: Any, known: Any, *, levels: int = LEVELS) -> Any:
    """Return a JSON value as it is, with the parts of a known one in the place of those that are equal to them.

    Numbers and booleans may be equal and of other types: this is for values of which each field has one type.
    """
    if new == known:
        return known
    if not levels:
        return new
    if type(new) is dict and type(known) is dict and known:
        keys = {key: key for key in known}
        return {
            keys.get(key, key): value
            if (there := known.get(key)) is None
            else alike(value, there, levels=levels - 1)
            for key, value in new.items()
        }
    if type(new) is list and type(known) is list:
        pairs = zip(new, known, strict=False)
        return [*(alike(each, there, levels=levels - 1) for each, there in pairs), *new[len(known) :]]
    return new


def exactly_alike(new: Any, known: Any) -> Any:
    """Do the same for values whose fields may have any type: `true` and `1` are different. Large ones stay as they are:
    they are few, and to compare one of a megabyte takes a tenth of a second.
    """
    said = msgspec.json.encode(new)
    if len(said) > LARGE_BYTES:
        return new
    found = alike(new, known)
    return found if msgspec.json.encode(found) == said else new
