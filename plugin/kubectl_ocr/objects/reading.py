"""Objects from the JSON that kubectl prints."""

from typing import TypeVar

import msgspec

from kubectl_ocr.objects.part import Part
from ocr_wire import checked
from ocr_wire.checked import Invalid

T = TypeVar("T")


class _List(Part, frozen=True):
    items: list[msgspec.Raw]


class _Name(Part, frozen=True):
    name: str


class _Named(Part, frozen=True):
    """Object of which only the name can be read."""

    metadata: _Name


def one(text: bytes, type_: type[T]) -> T | Invalid:
    """Return an object from kubectl's JSON. Never raises."""
    found = checked.read(text, msgspec.json.Decoder(type_), len(text))  # `Kubectl` bounds it
    if not isinstance(found, Invalid):
        return found
    named = checked.read(text, msgspec.json.Decoder(_Named), len(text))
    name = "an object" if isinstance(named, Invalid) else named.metadata.name
    return Invalid(f"{name} can't be read and is left out: {found}")


def many(text: bytes, type_: type[T]) -> tuple[list[T], list[Invalid]]:
    """Return the objects of a list from kubectl's JSON, and what can't be read of it. Never raises."""
    listed = one(text, _List)
    if isinstance(listed, Invalid):
        return [], [Invalid(listed.message.replace("an object", "kubectl's answer"))]
    found = [one(bytes(item), type_) for item in listed.items]
    return (
        [each for each in found if not isinstance(each, Invalid)],
        [each for each in found if isinstance(each, Invalid)],
    )
