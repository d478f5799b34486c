"""The part of the spec that changes without a new pod: its values, and the revision that they get.

A pod applies an envelope only if its revision is newer than the one it runs with, so neither a second leader
nor a late retry turns the clock back. The revision lives in `status.liveSettings` and is raised here, by
comparison of hashes only: the same values never get a second revision.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from ocr_operator.resources import spec as specs
from ocr_wire.live_settings import MAX_STEP, digest
from ocr_wire.text import Counter, whole

MAX_REPORTED: Final = MAX_STEP // 2
"""A pod that reports more than this is broken or hostile, and must not use up the counter: no pod lets it rise by more
than `MAX_STEP` at once. One raised a second reaches this in 68 years."""

_Hash = Annotated[str, msgspec.Meta(pattern=whole(r"^[0-9a-f]{16}$"), max_length=16)]


class Revision(msgspec.Struct, frozen=True):
    """Content of `status.liveSettings`: a counter that only grows, and the hash of its values."""

    revision: Counter
    hash: _Hash


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
    """Return what a status holds under `liveSettings`; None when there is none yet or it was damaged by hand."""
    try:
        return msgspec.convert(status.get("liveSettings"), Revision)
    except (msgspec.ValidationError, RecursionError):
        return None
