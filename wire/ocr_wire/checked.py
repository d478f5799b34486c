"""JSON from outside, turned into types: bounded, and with the place of a fault in its message."""

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from ocr_wire import text

MAX_DEPTH: Final = 32
"""Levels of a document; ours have about 6."""
MAX_NUMBER: Final = 2**64
"""Numbers of this size and above are refused, also in fields that no program reads: their digits are of no use."""

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


class Invalid(msgspec.Struct, frozen=True):
    """Fault for which something from outside can't be used."""

    message: str
    at: str = ""
    """The place in the document, such as `values.idle.offloadAfterSeconds`; empty: all of it."""

    def __str__(self) -> str:
        return f"{self.at}: {self.message}" if self.at else self.message


class Unknown(msgspec.Struct, frozen=True):
    """A field that a type doesn't have."""

    path: str
    key: str
    known: tuple[str, ...]
    """The fields that it has."""

    @property
    def hint(self) -> str:
        """The known field that was probably meant, as the end of a sentence; empty where none is near."""
        close = difflib.get_close_matches(self.key, self.known, n=1, cutoff=0.5)
        return f"; did you mean {close[0]!r}?" if close else ""


def decode(body: str | bytes, limit: int) -> Any:
    """Return the value of a JSON text of at most `limit` bytes, or `Invalid`. No number in it is absurdly large."""
    try:
        raw = body if isinstance(body, bytes) else body.encode()
        if len(raw) > limit:
            return Invalid(f"has {len(raw)} bytes; at most {limit} are read")
        value = msgspec.json.decode(raw)
    except RecursionError:
        return Invalid("is nested too deeply")
    except msgspec.ValidationError as error:
        # A number beyond all bounds; msgspec knows no better place than `$[...]`.
        return msgspec.structs.replace(invalid(error), at="")
    except (msgspec.MsgspecError, ValueError) as error:
        return Invalid(f"is not valid JSON: {text.clean(str(error), 200)}")
    problem = oversized(value)
    return value if problem is None else problem


def repeated(body: str | bytes) -> Invalid | None:
    """Return which key an object of a JSON text has twice, which `decode` has read: it took the last value, and the
    first one may be meant."""

    def note(pairs: list[tuple[str, Any]]) -> None:
        names: set[str] = set()
        for name, _ in pairs:
            if name in names:
                found.append(name)
            names.add(name)

    found: list[str] = []
    json.loads(body, object_pairs_hook=note)
    return Invalid(f"has the key {text.shown(found[0])!r} twice in one object") if found else None


def read(body: str | bytes, decoder: msgspec.json.Decoder[T], limit: int) -> T | Invalid:
    """Return a JSON text of at most `limit` bytes or characters as the decoder's type.

    The type's bounds are all that is checked: for documents that come often, and of which nothing is hashed.
    """
    if len(body) > limit:
        return Invalid(f"has {len(body)} bytes; at most {limit} are read")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        return invalid(error)
    except RecursionError:
        return Invalid("is nested too deeply")
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        return Invalid(f"is not valid JSON: {text.clean(str(error), 200)}")


def oversized(value: Any) -> Invalid | None:
    """Return what is nested too deeply, not finite or too large a number to be hashed or written again."""
    level: list[tuple[str, Any]] = [("", value)]
    for _ in range(MAX_DEPTH):
        for path, each in level:
            if isinstance(each, int | float) and not abs(each) < MAX_NUMBER:
                return Invalid("is no number" if _nan(each) else "is too large a number", path)
        level = [inner for path, outer in level for inner in _parts(path, outer)]
        if not level:
            return None
    return Invalid(f"is nested deeper than {MAX_DEPTH} levels", level[0][0][:200])


def _nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _parts(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield below(path, str(key)), inner
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield f"{path}[{index}]", inner


def below(path: str, key: str) -> str:
    """Return the path of a field."""
    return f"{path}.{text.shown(key)}" if path else text.shown(key)


_AT: Final = re.compile(r"(?s)(?P<message>.*?) - at (?:`key` in )?`\$(?P<path>.*)`")


def convert(value: Any, to: type[T], at: str = "") -> T | Invalid:
    """Return a decoded value as `to`, or what is wrong with it and where below `at`."""
    try:
        return msgspec.convert(value, to)
    except msgspec.ValidationError as error:
        return invalid(error, at)
    except RecursionError:
        return Invalid("is nested too deeply", at)
    except OverflowError:
        return Invalid("has a number that is too large", at)


def invalid(error: msgspec.ValidationError, at: str = "") -> Invalid:
    """Return msgspec's "Expected `int`, got `str` - at `$.queue.limit`" as a message and a place below `at`."""
    message, path = str(error), ""
    if match := _AT.fullmatch(message):
        message, path = match["message"], match["path"]
    return Invalid(text.clean(message[:1].lower() + message[1:]), (at + path).lstrip("."))


def unknown(value: Any, of: type[msgspec.Struct], at: str = "") -> Iterator[Unknown]:
    """Yield the fields of a decoded value that `of` doesn't have, at any depth of it.

    What a field that isn't known contains is part of it, and what has the wrong type is left to `convert`.
    """
    yield from _unknown(value, _shape(of), at)


@lru_cache(maxsize=64)
def _shape(of: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(of)


def _unknown(value: Any, shape: inspect.Type, at: str) -> Iterator[Unknown]:
    match shape:
        case inspect.Metadata(type=inner):
            yield from _unknown(value, inner, at)
        case inspect.UnionType(types=types):
            # A union of ours has one part at most that has fields: the others are null or not given.
            for each in types:
                yield from _unknown(value, each, at)
        case inspect.StructType(fields=fields) if isinstance(value, Mapping):
            types_of = {each.encode_name: each.type for each in fields}
            for key, inner in value.items():
                path = below(at, str(key))
                if key in types_of:
                    yield from _unknown(inner, types_of[key], path)
                else:
                    yield Unknown(path, str(key), tuple(types_of))
        case inspect.DictType(value_type=each) if isinstance(value, Mapping):
            for key, inner in value.items():
                yield from _unknown(inner, each, below(at, str(key)))
        case inspect.ListType(item_type=each) | inspect.VarTupleType(item_type=each) if isinstance(
            value, list | tuple
        ):
            for index, inner in enumerate(value):
                yield from _unknown(inner, each, f"{at}[{index}]")


def strict(value: Any, to: type[S], at: str = "") -> S | Invalid:
    """Return a decoded value as `to`, as `convert` does; a field that isn't known is a fault, too.

    For what a person writes, where such a field is a typing error.
    """
    for each in unknown(value, to, at):
        return Invalid(f"unknown key{each.hint}", each.path)
    return convert(value, to, at)
