"""What a watch of the API says, and the objects as they are by then. Pure: a list, then lines, in; objects out.

The protocol: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from typing import Any, Final, Generic, TypeVar

import msgspec

from kubectl_ocr import text
from kubectl_ocr.objects import reading
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.resource import Resource
from ocr_wire.checked import Invalid

GONE: Final = 410
"""Code of an `ERROR` whose cause is that the version to begin from is too old: list again."""
MAX_LINE: Final = 8 * 2**20
"""An object of the API has 1.5 MiB at most as it is stored; JSON may be longer."""

O = TypeVar("O", Resource, Pod)  # noqa: E741


class Expired(msgspec.Struct, frozen=True):
    """End of a watch that can't go on from where it was."""


class WatchFailed(msgspec.Struct, frozen=True):
    """Other error in a watch."""

    message: str


class _Meta(msgspec.Struct, frozen=True):
    resource_version: str = msgspec.field(name="resourceVersion", default="")


class _Head(msgspec.Struct, frozen=True):
    """Part of an object that a bookmark has, too."""

    metadata: _Meta = _Meta()
    code: int | None = None
    message: str = ""
    """These two of a `Status`, with which a watch ends early."""


class _Line(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class Objects(Generic[O]):
    """Objects of one kind by namespace and name, and the version that they are of."""

    def __init__(self, type_: type[O]) -> None:
        self._type: type[O] = type_
        self._found: dict[tuple[str, str], O] = {}
        self.version = ""
        """Empty: nothing was listed yet."""

    def all(self) -> list[O]:
        return [self._found[key] for key in sorted(self._found)]

    def replace(self, listed: bytes) -> list[Invalid]:
        """Take a list instead of what there was; returns what can't be read of it."""
        head = _decoded(listed, _Head)
        if isinstance(head, Invalid):
            return [head]
        found, unreadable = reading.many(listed, self._type)
        self._found = {(each.metadata.namespace, each.metadata.name): each for each in found}
        self.version = head.metadata.resource_version
        return unreadable

    def apply(self, line: bytes) -> bool | Expired | WatchFailed | Invalid:
        """Take a line of the watch; returns whether an object changed."""
        event = _decoded(line, _Line)
        if isinstance(event, Invalid):
            return event
        head = _decoded(bytes(event.object), _Head)
        if isinstance(head, Invalid):
            return head
        if event.type == "ERROR":
            return (
                Expired()
                if head.code == GONE
                else WatchFailed(text.clean(head.message or "the watch failed"))
            )
        self.version = head.metadata.resource_version or self.version
        if event.type not in {"ADDED", "MODIFIED", "DELETED"}:
            return False  # a bookmark, which says how far the watch is, or what later versions may add
        return self._changed(bytes(event.object), deleted=event.type == "DELETED")

    def _changed(self, body: bytes, *, deleted: bool) -> bool | Invalid:
        found = reading.one(body, self._type)
        if isinstance(found, Invalid):
            return found
        key = (found.metadata.namespace, found.metadata.name)
        if deleted:
            return self._found.pop(key, None) is not None
        self._found[key] = found
        return True


def _decoded(body: bytes, type_: type[Any]) -> Any:
    return reading.one(body, type_)
