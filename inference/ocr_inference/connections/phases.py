"""Decides which connections end, and which requests are served; values in, values out.

A request counts from the end of its head. What has none yet (a new connection, one that is kept alive, a head that
comes in slowly) costs its client nothing to hold, so it never keeps a request out: it ends after a while, and at once
where its place is needed, the one that has waited longest first.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar, assert_never

from ocr_inference.connections.limits import Limits, Times

GRACE_SECONDS: Final = 0.02
"""Time in which a connection isn't ended for another one: what it has sent is read within some turns of the loop."""
UNASKED_SECONDS: Final = 1.0
"""Time for the answer to a client that sends nothing more and can't be asked whether it still reads."""
MIN_PROGRESS_BYTES: Final = 16_384

K = TypeVar("K")


class Phase(StrEnum):
    """Phase of a connection."""

    SILENT = "silent"
    """Nothing was sent yet."""
    HEAD = "head"
    """A head is coming in."""
    READY = "ready"
    """A head is complete; its request begins within some turns of the loop."""
    SERVING = "serving"
    """A request is read and answered."""
    IDLE = "idle"
    """Kept alive between two requests."""
    CLOSING = "closing"
    """Ended; the rest of an answer may still be sent."""


class Kind(StrEnum):
    """Kind of a request, by which its places are counted."""

    ORDINARY = "ordinary"
    LOOK = "look"
    """A probe, a scrape, a look at the state: short, and what tells that all places are taken."""
    ADMIN = "admin"
    """Whatever carries the admin token."""


class Ending(StrEnum):
    """Why a connection was ended by us."""

    SILENT = "silent"
    HEAD = "head"
    IDLE = "idle"
    STALLED = "stalled"
    GONE = "gone"
    """The client had left."""
    DISPLACED = "displaced"
    """Another one needed its place."""
    TURNED_AWAY = "turned_away"
    """More arrived from its address than could be taken."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Connection as its owner sees it."""

    phase: Phase
    since: float
    """Time of the phase's beginning."""
    stuck_since: float | None = None
    """Time of the last progress of an answer that waits to be sent; None where none waits."""
    half_closed_since: float | None = None
    """Time from which the client sends nothing more; it may have left, or wait for its answer."""
    asked: bool = False
    """Whether a half-closed client was sent something, which those that have left refuse at once."""


@dataclass(frozen=True, slots=True)
class Take:
    """There is room for one more connection."""


@dataclass(frozen=True, slots=True)
class End(Generic[K]):
    """This one has to end first."""

    key: K


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can end now; one can in so many seconds, or None: when a request ends."""

    seconds: float | None


def overdue(seen: Seen, times: Times, now: float) -> Ending | None:
    """Return why a connection has to end now, None where it hasn't."""
    if seen.stuck_since is not None and now - seen.stuck_since >= times.stalled:
        return Ending.STALLED
    waited = now - seen.since
    match seen.phase:
        case Phase.SILENT | Phase.HEAD:
            return Ending(seen.phase.value) if waited >= times.head else None
        case Phase.IDLE:
            return Ending.IDLE if waited >= times.idle else None
        case Phase.CLOSING:
            return Ending.STALLED if waited >= times.stalled else None
        case Phase.SERVING if seen.half_closed_since is not None and not seen.asked:
            began = max(seen.since, seen.half_closed_since)
            return Ending.GONE if now - began >= UNASKED_SECONDS else None
        case Phase.READY | Phase.SERVING:
            return None


def make_room(taken: int, total: int, waiting: Iterable[tuple[K, float]], now: float) -> Take | End[K] | Wait:
    """Return what has to happen before one more connection is taken.

    `waiting` are those without a request and the times since when, the one that has waited longest first.
    """
    if taken < total:
        return Take()
    for key, since in waiting:
        left = since + GRACE_SECONDS - now
        return End(key) if left <= 0 else Wait(left)
    return Wait(None)


def untaken(connections: Iterable[tuple[K, Seen]]) -> K | None:
    """Return the connection whose client has left its answer untaken for longest, None where all take theirs.

    It makes way for a probe or the admin where all places are taken: an answer that isn't taken costs its client
    nothing to hold, as a connection without a request.
    """
    stuck = [
        (seen.stuck_since, key)
        for key, seen in connections
        if seen.phase is Phase.SERVING and seen.stuck_since is not None
    ]
    return min(stuck, key=lambda each: each[0])[1] if stuck else None


def admits(kind: Kind, serving: int, limits: Limits) -> bool:
    """Return whether a request is served while so many others are."""
    match kind:
        case Kind.ORDINARY:
            return serving < limits.ordinary
        case Kind.LOOK:
            return serving < limits.looks
        case Kind.ADMIN:
            return serving < limits.total
        case other:
            assert_never(other)
