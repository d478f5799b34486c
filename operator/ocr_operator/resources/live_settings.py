"""The part of the spec that changes without a new pod: values, hash, revision, envelope.

A pod applies an envelope only if its revision is newer than the one it runs with, so neither a second leader
nor a late retry turns the clock back. The revision lives in `status.liveSettings` and is raised here, by
comparison of hashes only: the same values never get a second revision.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from ocr_operator.resources import spec as specs

MAX_BYTES: Final = 65_536
"""Eight models need under 2 KiB; a quarter of what the API server allows all annotations of a pod together.
"""
MAX_REPORTED: Final = 2**53
"""A pod that reports more than this is broken or hostile, and must not use up the counter."""

_Counter = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}$", max_length=16)]


class Revision(msgspec.Struct, frozen=True):
    """What `status.liveSettings` holds: a counter that only grows, and the hash of its values."""

    revision: _Counter
    hash: _Hash


class InvalidLiveSettings(msgspec.Struct, frozen=True):
    """Why a text (a pod's annotation, which anybody with access to pods can edit) is no envelope."""

    message: str


class LiveSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope, the same in the pod's annotation, its file, `PUT /v1/settings` and the echo."""

    generation: _Counter
    revision: _Counter
    hash: _Hash
    values: dict[str, Any]

    def to_json(self) -> str:
        """Deterministic: equal envelopes give equal text."""
        return _canonical(msgspec.to_builtins(self))


def values(spec: specs.Spec) -> dict[str, Any]:
    """The live fields of a spec; the timeouts of each model are already merged with `spec.idle`.

    `routing` is live too, but pods have no part in it, so it isn't sent to them.
    """
    parts = {
        "idle": spec.idle,
        "batching": spec.batching,
        "queue": spec.queue,
        "logLevel": spec.log_level,
        "models": {
            model.name: {
                "idle": spec.idle.merged(model.idle),
                "priority": model.priority,
                "preload": model.preload,
            }
            for model in spec.models
        },
    }
    built: dict[str, Any] = msgspec.to_builtins(parts)
    return built


def digest(live: Mapping[str, Any]) -> str:
    """16 hex digits of SHA-256 over the canonical JSON: the same in the pod, whatever the order of keys."""
    return hashlib.sha256(_canonical(_integral(live)).encode()).hexdigest()[:16]


def advance(before: Revision | None, live: Mapping[str, Any], reported: int = 0) -> Revision:
    """The revision for these values: `before` if they hash the same, else one more (the first one is 1).

    `reported` is the newest revision that any pod runs with. It only matters when `before` was lost or is
    older (a status wiped by hand or restored from a backup): pods would refuse everything up to it.
    """
    wanted = digest(live)
    newest = max(before.revision if before else 0, reported if reported <= MAX_REPORTED else 0)
    if before is not None and before.hash == wanted and before.revision == newest:
        return before
    return Revision(revision=newest + 1, hash=wanted)


def revision(status: Mapping[str, Any]) -> Revision | None:
    """What a status holds under `liveSettings`; None when there is none yet or it was damaged by hand."""
    try:
        return msgspec.convert(status.get("liveSettings"), Revision)
    except (msgspec.ValidationError, RecursionError):
        return None


def envelope(generation: int, current: Revision, live: Mapping[str, Any]) -> LiveSettings:
    """What pods are told: the values, with the generation and the revision that they stand for."""
    return LiveSettings(
        generation=generation, revision=current.revision, hash=current.hash, values=dict(_integral(live))
    )


def parse(text: str | bytes) -> LiveSettings | InvalidLiveSettings:
    """Reads an envelope from a pod's annotation. Never raises."""
    raw = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    if len(raw) > MAX_BYTES:
        return InvalidLiveSettings(f"live settings of {len(raw)} bytes: at most {MAX_BYTES} are read")
    try:
        parsed = msgspec.json.decode(raw, type=LiveSettings)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return InvalidLiveSettings(f"live settings are not an envelope: {error}")
    if (actual := digest(parsed.values)) != parsed.hash:
        return InvalidLiveSettings(f"live settings have hash {parsed.hash}, their values hash to {actual}")
    return parsed


def _canonical(value: object) -> str:
    """Sorted keys, no spaces, not escaped: one text for one value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _integral(value: Any) -> Any:
    """Integral floats as integers: a value that went through another JSON library may come back as 60.0."""
    match value:
        case Mapping():
            return {key: _integral(item) for key, item in value.items()}
        case list() | tuple():
            return [_integral(item) for item in value]
        case float() if value.is_integer():
            return int(value)
    return value
