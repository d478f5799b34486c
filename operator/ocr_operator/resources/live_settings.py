"""The part of the spec that changes without a new pod: its values, and the revision that they get.

A pod applies an envelope only if its revision is newer than the one it runs with, so neither a second leader
nor a late retry turns the clock back. The revision lives in `status.liveSettings` and is raised here, by
comparison of hashes only: the same values never get a second revision.

Pods may hear of a revision before the status has it, so that a policy which changes a thousand resources doesn't wait
for a thousand writes: a write of the status reserves a block of revisions above the one it records. Only the process
whose write it was hands out revisions of that block; any other begins above it.
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
BLOCK: Final = 16
"""Revisions that a write of the status reserves: changes that come faster than statuses are written; the next one waits
for its own write.
"""
MAX_BLOCK: Final = 2**20
"""A status says that more are reserved: it was edited by hand, and must not use up the counter."""

_Hash = Annotated[str, msgspec.Meta(pattern=whole(r"^[0-9a-f]{16}$"), max_length=16)]


class Revision(msgspec.Struct, frozen=True):
    """Content of `status.liveSettings`: a counter that only grows, and the hash of its values."""

    revision: Counter
    hash: _Hash
    reserved: Counter = 0
    """The highest revision that may have been handed out; below `revision` where none is reserved."""


class Block(msgspec.Struct, frozen=True):
    """The revisions from `first` to `last`, both included: this process's alone, by a write of its own."""

    first: int
    last: int


class Issued(msgspec.Struct, frozen=True):
    """The revisions of one resource that this process has handed out, and may; all of it can be lost."""

    newest: Revision
    """The one that pods should run with; the status may have an older one."""
    block: Block


class Step(msgspec.Struct, frozen=True):
    """The revision of values, and whether pods may hear of it before the status has it."""

    revision: Revision
    """One that was raised has nothing reserved: `reserve` says what is, when it is written."""
    raised: bool = False
    record_first: bool = False


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


def advance(
    recorded: Revision | None, live: Mapping[str, Any], reported: int = 0, issued: Issued | None = None
) -> Step:
    """The revision for these values: that of now if they hash the same, else a higher one (the first one is 1).

    `recorded` is what the status says. `reported` is the newest revision that any pod runs with. It only matters when
    `recorded` was lost or is older (a status wiped by hand or restored from a backup): pods would refuse everything up
    to it.
    """
    wanted = digest(live)
    reported = reported if reported <= MAX_REPORTED else 0
    held = _held(recorded, issued)
    current = held.newest if held else recorded
    if current is not None and current.hash == wanted and reported <= current.revision:
        return Step(current)
    above = max(current.revision if current else 0, reported)
    if held is not None and (free := max(above + 1, held.block.first)) <= held.block.last:
        return Step(Revision(free, wanted), raised=True)
    others = max(recorded.reserved if recorded else 0, issued.block.last if issued else 0)
    newest = max(above, others) + 1
    return Step(Revision(newest, wanted), raised=True, record_first=True)


def reserve(recorded: Revision | None, newest: int, issued: Issued | None) -> Block:
    """The block that a write of the status with the revision `newest` reserves: the one that is held while half of it
    is left, so that it makes no difference between two statuses; else one more.
    """
    known = max(newest, recorded.reserved if recorded else 0)
    held = _held(recorded, issued)
    if held is None:
        return Block(known + 1, known + BLOCK)
    # The status may get an older revision than pods have heard of: of a pass that began while a Lease was away.
    first = max(held.block.first, held.newest.revision + 1)
    enough = held.block.last - newest >= BLOCK // 2
    return Block(first, held.block.last if enough else known + BLOCK)


def issued(status: Mapping[str, Any], block: Block) -> Issued | None:
    """Return what was handed out once a status is written that reserves `block`; None where it has no such field,
    since the definition is an older one.
    """
    stored = revision(status)
    return Issued(stored, block) if stored is not None and stored.reserved == block.last else None


def _held(recorded: Revision | None, issued: Issued | None) -> Issued | None:
    """Return what this process has issued, if the status still has its block: no other process has written since."""
    if recorded is None or issued is None or recorded.reserved != issued.block.last:
        return None
    return issued if recorded.revision <= issued.newest.revision else None


def revision(status: Mapping[str, Any]) -> Revision | None:
    """Return what a status holds under `liveSettings`; None when there is none yet or it was damaged by hand."""
    try:
        found = msgspec.convert(status.get("liveSettings"), Revision)
    except (msgspec.ValidationError, RecursionError):
        return None
    return msgspec.structs.replace(found, reserved=min(found.reserved, found.revision + MAX_BLOCK))
