"""Live settings as they are sent to pods and echoed by them: values, hash, envelope.

The operator writes an envelope into the pod's annotation and pushes it with `PUT /v1/settings`; the server echoes it.
The hash is of the values as they were sent, whatever the reader makes of them, so an echo matches also where the two
programs are of different versions. What a reader doesn't know it ignores and names in the echo (`ignored`).
"""

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from ocr_wire import checked, text
from ocr_wire.checked import Invalid
from ocr_wire.settings import NEVER, LogLevel, accepted

MAX_BYTES: Final = 65_536
"""Eight models need under 2 KiB; a quarter of what the API server allows all annotations of a pod together."""
MAX_REVISION: Final = 2**53
"""Highest revision that a pod takes: up to it every JSON library reads exactly. One raised a second reaches it in 285
million years."""
MAX_STEP: Final = 2**32
"""How far a pod lets a revision rise at once: one that was sent by mistake or malice must leave newer ones."""
MAX_IGNORED: Final = 32
"""Paths of ignored fields that an echo names; the last one then says how many more there are."""
MAX_PATH: Final = 200
"""Characters of such a path."""
MAX_MODELS: Final = 64
"""Models that values may be about; a pod has 8 at most, but values may name others."""

NOTHING: Final = "44136fa355b3678a"
"""The hash of no values."""


class _Values(msgspec.Struct, frozen=True, rename="camel"):
    """A part of the values. What is unset stays unset: a weaker layer may set it."""


class IdleValues(_Values, frozen=True):
    """Seconds since the last activity; 0 is at once, -1 never, other numbers below 0 are refused."""

    offload_after_seconds: Annotated[float, accepted("idle.offloadAfterSeconds")] | UnsetType = UNSET
    exit_after_seconds: Annotated[float, accepted("idle.exitAfterSeconds")] | UnsetType = UNSET
    drop_standby_after_seconds: Annotated[float, accepted("idle.dropStandbyAfterSeconds")] | UnsetType = UNSET
    release_after_seconds: Annotated[float, accepted("idle.releaseAfterSeconds")] | UnsetType = UNSET


class BatchingValues(_Values, frozen=True):
    max_pages: Annotated[int, accepted("batching.maxPages")] | UnsetType = UNSET
    max_wait_milliseconds: Annotated[float, accepted("batching.maxWaitMilliseconds")] | UnsetType = UNSET


class QueueValues(_Values, frozen=True):
    limit: Annotated[int, accepted("queue.limit")] | UnsetType = UNSET
    patience_seconds: Annotated[float, accepted("queue.patienceSeconds")] | UnsetType = UNSET
    deadline_seconds: Annotated[float, accepted("queue.deadlineSeconds")] | UnsetType = UNSET


class ModelValues(_Values, frozen=True):
    idle: IdleValues | UnsetType = UNSET
    priority: Annotated[int, accepted("priority")] | UnsetType = UNSET
    preload: bool | UnsetType = UNSET


class LiveValues(_Values, frozen=True):
    """Values that pods run by: the general timeouts, and those of models, which override them."""

    idle: IdleValues | UnsetType = UNSET
    batching: BatchingValues | UnsetType = UNSET
    queue: QueueValues | UnsetType = UNSET
    log_level: LogLevel | UnsetType = UNSET
    models: Annotated[dict[text.ModelName, ModelValues], msgspec.Meta(max_length=MAX_MODELS)] | UnsetType = (
        UNSET
    )


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """Values with their generation, revision and hash.

    The same in the pod's annotation, its file, `PUT /v1/settings` and the echo.
    Revision 0 means that nothing was declared yet.
    """

    generation: text.Counter = 0
    revision: text.Counter = 0
    hash: Annotated[str, msgspec.Meta(max_length=64)] = ""
    values: dict[str, Any] = {}
    """As they were sent, also what the reader doesn't know."""
    ignored: tuple[str, ...] | UnsetType = UNSET
    """Sorted paths of values that a pod got and doesn't know; unset where there is none, and from older servers."""

    def to_json(self) -> str:
        """Return the envelope as text. Equal envelopes give equal text."""
        return canonical(msgspec.to_builtins(self))


class Received(msgspec.Struct, frozen=True):
    """Live settings that a pod got: the envelope to echo, and the values in it that the pod works by."""

    envelope: Envelope = Envelope(hash=NOTHING)
    values: LiveValues = LiveValues()


def envelope(generation: int, revision: int, values: Mapping[str, Any]) -> Envelope:
    """Return the envelope around values."""
    sent: dict[str, Any] = integral(values)
    return Envelope(generation=generation, revision=revision, hash=digest(sent), values=sent)


def read(body: str | bytes) -> Envelope | Invalid:
    """Read an envelope, without checking its values.

    A hash that isn't that of the values is refused; where there is none, it is added.
    """
    raw = checked.decode(body, MAX_BYTES)
    return raw if isinstance(raw, Invalid) else _read(raw)


def _read(raw: Any) -> Envelope | Invalid:
    found = checked.convert(raw, Envelope)
    if isinstance(found, Invalid):
        return found
    for field in ("generation", "revision", "values"):
        if field not in raw:
            return Invalid(f"object missing required field `{field}`", field)
    actual = digest(found.values)
    if found.hash and found.hash != actual:
        return Invalid(f"doesn't match the values, whose hash is {actual}", "hash")
    return msgspec.structs.replace(found, hash=actual, values=integral(found.values))


def parse(body: str | bytes, models: Collection[str]) -> Received | Invalid:
    """Read the live settings that a pod got, where `models` are those that it has.

    What isn't known, at any depth, is ignored and named in the envelope's `ignored`: it comes from a newer program.
    So are settings of models that the pod doesn't have, which is one of an older template then. A bad value of what is
    known is refused by its path, and with it all the others; so is a key that an object has twice.
    """
    raw = checked.decode(body, MAX_BYTES)
    if isinstance(raw, Invalid):
        return raw
    if (twice := checked.repeated(body)) is not None:
        return twice
    found = _read(raw)
    if isinstance(found, Invalid):
        return found
    if found.revision > MAX_REVISION:
        return Invalid(f"expected at most {MAX_REVISION}; got {found.revision}", "revision")
    known, foreign = _of_models(found.values, models)
    values = parse_values(known, "values")
    if isinstance(values, Invalid):
        return values
    unknown = {each.path for each in checked.unknown(raw, Envelope)}
    unknown |= {each.path for each in checked.unknown(known, LiveValues, "values")}
    unknown |= {checked.below("values.models", name) for name in foreign}
    ignored = shortened(unknown)
    return Received(msgspec.structs.replace(found, ignored=ignored or UNSET), values)


def _of_models(values: dict[str, Any], models: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the values without those of other models, and the names of these."""
    declared = values.get("models")
    if not isinstance(declared, dict):
        return values, []
    ours = {name: each for name, each in declared.items() if name in models}
    return {**values, "models": ours}, [name for name in declared if name not in models]


def parse_values(raw: Any, at: str, *, strict: bool = False) -> LiveValues | Invalid:
    """Read values, tolerantly, or as a person wrote them: then a key that isn't known is a fault."""
    convert = checked.strict if strict else checked.convert
    declared = raw.get("models") if isinstance(raw, dict) else None
    if isinstance(declared, dict):
        # One by one first, since msgspec's path doesn't say which key of a mapping is meant.
        for name, model in declared.items():
            place = checked.below(f"{at}.models", name)
            part = convert(model, ModelValues, place)
            if isinstance(part, Invalid):
                return part
            if problem := bad_idle(part.idle, f"{place}.idle"):
                return problem
    values = convert(raw, LiveValues, at)
    if isinstance(values, Invalid):
        return values
    return bad_idle(values.idle, f"{at}.idle") or values


def bad_idle(idle: IdleValues | UnsetType, at: str) -> Invalid | None:
    """Return what is wrong with timeouts beyond their bounds: between -1 and 0 nothing has a meaning."""
    if idle is UNSET:
        return None
    for name, value in msgspec.to_builtins(idle).items():
        if NEVER < value < 0 or math.isnan(value):
            return Invalid(f"expected seconds >= 0, or -1 for never; got {value}", f"{at}.{name}")
    return None


def shortened(paths: Collection[str]) -> tuple[str, ...]:
    """Return sorted paths, few and short enough for an echo."""
    ordered = sorted(text.clean(path, MAX_PATH) for path in paths)
    if len(ordered) <= MAX_IGNORED:
        return tuple(ordered)
    return (*ordered[:MAX_IGNORED], f"… and {len(ordered) - MAX_IGNORED} more")


V = TypeVar("V", bound=_Values)
D = TypeVar("D")


def merged(strongest: V, *weaker: V) -> V:
    """Return the values of the strongest layer that sets each field; what none sets stays unset."""
    return msgspec.structs.replace(strongest, **_said(strongest, *weaker))


def completed(defaults: D, *layers: _Values | UnsetType) -> D:
    """Return `defaults`, a data class with the same fields, with each field from the first layer that sets it."""
    return replace(defaults, **_said(*layers))  # type: ignore[type-var]


def _said(*layers: _Values | UnsetType) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for layer in layers:
        if layer is not UNSET:
            for name in layer.__struct_fields__:
                if (value := getattr(layer, name)) is not UNSET:
                    said.setdefault(name, value)
    return said


def digest(values: Mapping[str, Any]) -> str:
    """Return the first 16 hex digits of SHA-256 over the canonical JSON of values.

    The same in every program, whatever the order of keys, and whether a number is written 60 or 60.0.
    """
    return hashlib.sha256(canonical(integral(values)).encode()).hexdigest()[:16]


def canonical(value: object) -> str:
    """Return one text for one value: sorted keys, no spaces, not escaped."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def integral(value: Any) -> Any:
    """Return a value with integral floats as integers: another JSON library may have made 60.0 of 60."""
    match value:
        case None | str() | int():  # first, since most are, and to be a Mapping or not takes longest
            return value
        case float():
            return int(value) if value.is_integer() else value
        case list() | tuple():
            return [integral(item) for item in value]
        case Mapping():
            return {key: integral(item) for key, item in value.items()}
    return value
