"""The live override: live settings that count for a while, in an annotation of the resource and not in its spec.

    {"values": {"idle": {"offloadAfterSeconds": 30}, "models": [{"name": "pp-ocr", "preload": true}]},
     "until": "2026-11-25T14:05:00Z"}

`values` has the keys and the bounds of the resource's spec; without `until` it counts until it is removed. A person may
write it, so it is read strictly, and as a whole or not at all.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from ocr_wire import checked, text
from ocr_wire.checked import Invalid
from ocr_wire.live_settings import canonical
from ocr_wire.settings import LIVE, LiveSetting, Value

MAX_BYTES: Final = 16_384
"""Eight models with every field of theirs need 2 KiB."""
MAX_MODELS: Final = 16

Place = tuple[str, str]
"""A model, or empty for all of them, and the path of a live setting."""


class Override(msgspec.Struct, frozen=True, kw_only=True):
    values: Mapping[Place, Value] = {}
    until: datetime | None = None
    """When it ends, in UTC; None for "when it is removed"."""

    def to_json(self) -> str:
        """Return the annotation's text. Equal overrides give equal text."""
        nested: dict[str, Any] = {}
        models: dict[str, dict[str, Any]] = {}
        for (model, path), value in self.values.items():
            target = models.setdefault(model, {"name": model}) if model else nested
            part, _, field = path.rpartition(".")
            (target.setdefault(part, {}) if part else target)[field] = value
        if models:
            nested["models"] = [models[name] for name in sorted(models)]
        until = {"until": stamp(self.until)} if self.until else {}
        return canonical({"values": nested, **until})


def _type(row: LiveSetting) -> Any:
    if row.admits is not None:
        return Annotated[int, row.admits.meta]
    return Literal[row.words] if row.words else bool


def _fields(rows: Iterable[LiveSetting]) -> list[tuple[str, Any, Any]]:
    """Return the fields of an object that has these settings, each of them optional."""
    parts: dict[str, list[tuple[str, Any, Any]]] = {}
    for row in rows:
        parts.setdefault(row.part, []).append((row.field, _type(row) | UnsetType, UNSET))
    alone = parts.pop("", [])
    return alone + [
        (part, msgspec.defstruct(part, fields, frozen=True) | UnsetType, UNSET)
        for part, fields in parts.items()
    ]


_Model: Final = msgspec.defstruct(
    "Model", [("name", text.ModelName), *_fields(row for row in LIVE if row.per_model)], frozen=True
)
_Models: Final = Annotated[tuple[_Model, ...], msgspec.Meta(max_length=MAX_MODELS)]  # type: ignore[valid-type]
_Values: Final = msgspec.defstruct(
    "Values",
    [*_fields(row for row in LIVE if row.general), ("models", _Models | UnsetType, UNSET)],
    frozen=True,
)


class _Document(msgspec.Struct, frozen=True):
    values: _Values  # type: ignore[valid-type]
    until: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


def read(body: str) -> Override | Invalid:
    """Read an annotation. Never raises."""
    raw = checked.decode(body, MAX_BYTES)
    document = raw if isinstance(raw, Invalid) else checked.strict(raw, _Document)
    if isinstance(document, Invalid):
        return document
    values: dict[str, Any] = msgspec.to_builtins(document.values)
    models = values.pop("models", ())
    known = [each["name"] for each in models]
    for index, name in enumerate(known):
        if name in known[:index]:
            return Invalid(f"is there twice: {name!r}", f"values.models[{index}]")
    places = dict(_places("", values))
    for each in models:
        places |= _places(each.pop("name"), each)
    try:
        until = document.until and document.until.astimezone(UTC)
    except OverflowError:
        return Invalid("is no time that a clock can show", "until")
    return Override(values=places, until=until)


def _places(model: str, values: Mapping[str, Any]) -> Iterator[tuple[Place, Value]]:
    for part, value in values.items():
        if isinstance(value, Mapping):
            for field, each in value.items():
                yield (model, f"{part}.{field}"), each
        else:
            yield (model, part), value


def digest(body: str) -> str:
    """Return the first 16 hex digits of SHA-256 over an annotation: a status says by it which one it is about."""
    return hashlib.sha256(body.encode(errors="replace")).hexdigest()[:16]


def stamp(at: datetime) -> str:
    """`2026-11-25T14:05:00Z`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
