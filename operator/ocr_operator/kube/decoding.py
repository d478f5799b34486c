"""Bytes of the API server become lines and objects, bounded, and no object is in the way of the others.

Most of an object is what its author wrote, and some of it has no schema (`spec.template.spec`): it may be nested
thousands of levels deep, which no decoder of Python takes, or be all characters that JSON escapes, so that 1 MB of
them are 6 MB here. So lines are split here and not by a reader with a limit of its own, what lies too deep is cut
off, and an item of a list that can't be read is left out of it.
"""

import logging
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Final, TypeVar

import msgspec

MAX_BYTES: Final = 32 * 2**20
"""Of one line of a watch, and of one answer. etcd takes objects of 1.5 MB, and the longest escape is six bytes."""
MAX_LEVELS: Final = 128
"""Levels that are decoded. A pod has about 20, and Python gives up near 1,000, with those of its own calls."""

_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""Also one without an end. Possessive: what was read once isn't read again."""
_TOKEN: Final = re.compile(_STRING.pattern + rb"|[\[\]{}]", re.DOTALL)
"""A string, or a bracket."""
_NAME: Final = re.compile(rb'"name": ?"([-.a-z0-9]{1,253})"')

log = logging.getLogger(__name__)

T = TypeVar("T")


class Unreadable(ValueError):
    """Bytes that are no JSON object, or no list of them."""


class TooLong(Unreadable):
    """A line or an answer of more bytes than are read."""


class _Meta(msgspec.Struct, frozen=True):
    version: str = msgspec.field(default="", name="resourceVersion")
    token: str | None = msgspec.field(default="", name="continue")


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Page(msgspec.Struct, frozen=True):
    metadata: _Meta
    items: list[msgspec.Raw] | None = None


async def lines(chunks: AsyncIterator[bytes], *, max_bytes: int = MAX_BYTES) -> AsyncIterator[bytes]:
    """Split a stream into its lines, without their ends. Raises `TooLong`."""
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            yield b"".join((*parts, line))
            parts, size = [], 0
        parts.append(rest)
        size += len(rest)
        if size > max_bytes:
            raise TooLong(f"a line of more than {max_bytes} bytes")
    if size:
        yield b"".join(parts)


async def whole(chunks: AsyncIterator[bytes], *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return all of an answer. Raises `TooLong`."""
    answer = bytearray()
    async for chunk in chunks:
        answer += chunk
        if len(answer) > max_bytes:
            raise TooLong(f"an answer of more than {max_bytes} bytes")
    return bytes(answer)


def document(raw: bytes, *, free_form: bool = False) -> dict[str, Any]:
    """Return a JSON object; what lies so deep that it can't be read is null in it. Raises `Unreadable`.

    `free_form`: parts of it have no schema, so what is deeper than `MAX_LEVELS` is null in any case. What could be
    decoded may still be too deep to be compared.
    """
    try:
        return _decoded(raw, _OBJECT, free_form=free_form)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unreadable(f"no JSON object: {error}") from error


def event(
    raw: bytes, *, free_form: bool = False, shape: type[Any] | None = None
) -> tuple[str, dict[str, Any]]:
    """Return the type and the object of a line of a watch. Raises `Unreadable`."""
    if shape is None:
        found = document(raw, free_form=free_form)
        return str(found.get("type")), found.get("object") or {}
    try:
        line = _decoded(raw, _EVENT, free_form=False)
        if line.type == "ERROR":
            return line.type, _OBJECT.decode(line.object)
        return line.type, _shaped(bytes(line.object), shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"no event: {error}") from error


def page(
    raw: bytes, *, free_form: bool = False, shape: type[Any] | None = None
) -> tuple[list[dict[str, Any]], str, str]:
    """Return the items of a page of a list, the list's version, and the token of the next page, empty after the last.

    Items are read as `document` reads them, or only the fields of a `shape`.
    One that can't be read is left out, and the log names it. Raises
    `Unreadable` where there is no list.
    """
    try:
        found = _decoded(raw, _PAGE, free_form=False)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unreadable(f"no list: {error}") from error
    return (
        list(_items(found.items or (), free_form, shape)),
        found.metadata.version,
        found.metadata.token or "",
    )


def _items(raw: Iterable[msgspec.Raw], free_form: bool, shape: type[Any] | None) -> Iterator[dict[str, Any]]:
    for each in raw:
        try:
            if shape is None:
                yield _decoded(bytes(each), _OBJECT, free_form=free_form)
            else:
                yield _shaped(bytes(each), shape)
        except Exception:
            name = _NAME.search(bytes(each))
            log.exception("an object can't be read name=%s", name[1].decode() if name else "unknown")


def _shaped(raw: bytes, shape: type[Any]) -> dict[str, Any]:
    """Decode the fields of a shape alone, for what is skipped costs no memory. An object with other types is decoded
    whole: its readers take of it what they can.
    """
    try:
        found: dict[str, Any] = msgspec.to_builtins(msgspec.json.decode(raw, type=shape))
    except msgspec.ValidationError:
        return _OBJECT.decode(raw)
    return found


def _decoded(raw: bytes, decoder: msgspec.json.Decoder[T], *, free_form: bool) -> T:
    try:
        return decoder.decode(shallow(raw) if free_form else raw)
    except RecursionError:
        return decoder.decode(shallow(raw))


def shallow(raw: bytes, levels: int = MAX_LEVELS) -> bytes:
    """Return a JSON text with null in the place of everything that lies deeper than `levels`."""
    if raw.count(b"{") + raw.count(b"[") <= levels or not _may_be_deeper(raw, levels):
        return raw
    parts: list[bytes] = []
    level = start = 0
    for token in _TOKEN.finditer(raw):
        match token[0]:
            case b"{" | b"[":
                level += 1
                if level == levels + 1:
                    parts += raw[start : token.start()], b"null"
            case b"}" | b"]":
                level -= 1
                if level == levels:
                    start = token.end()
    return b"".join((*parts, raw[start:])) if parts else raw


def _may_be_deeper(raw: bytes, levels: int) -> bool:
    """Return whether a text may have more levels: no for nearly all, in a fraction of the time that tokens take.

    Each round takes one level, or two, from the brackets, the innermost ones first.
    """
    brackets = _STRING.sub(b"", raw).translate(None, _NO_BRACKETS)
    for _ in range(levels // 2):
        if not brackets:
            return False
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    return bool(brackets)


_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
_EVENT: Final = msgspec.json.Decoder(_Event)
_PAGE: Final = msgspec.json.Decoder(_Page)
