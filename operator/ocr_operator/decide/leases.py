"""Decide which process holds a Lease, as client-go does: by one's own clock, and by the API server's order of writes.

Clocks of different machines are never compared: another's Lease has ended when this process has seen the same version
of it for as long as it lasts. A holder counts from before the request that renewed it, and begins no write in the last
part of that time. The API server refuses the write of all but one of those that begin. That a Lease
is deleted ends no work, so a process that knew its holder waits as long as if it were there and not renewed any more.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from ocr_wire import numbers

MAX_DURATION_SECONDS: Final = 600
"""A longer one, written by hand, would keep others away for ever."""
MAX_HOLDER: Final = 253


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Times of the Leases of one purpose, in seconds."""

    duration: int
    """Without a renewal for so long it is free."""
    renew: float
    """Its holder renews it so often; others look at it at least so often."""
    valid: float
    """For so long after a renewal the holder begins writes: each has the rest to end, before another begins."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """State of a Lease, and since when this process has seen it unchanged."""

    holder: str
    version: str
    seconds: int
    """For so long it lasts."""
    since: float
    """In monotonic seconds."""
    transitions: int = 0
    """How often it has changed hands."""
    acquired: str = ""
    """When its holder got it, as that one wrote it."""
    missing: bool = False
    """It isn't there any more; `since` is when that was first seen."""


@dataclass(frozen=True, slots=True)
class Create:
    """There is no Lease, and no other process that may work by one: create it."""


@dataclass(frozen=True, slots=True)
class Take:
    """It is ours, or free: write it, unless it is at another version by then."""

    version: str
    ours: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Another one holds it, or did until it was deleted."""

    holder: str
    seconds: float
    """After so long it is worth a look."""


Step = Create | Take | Wait


def sight(before: Sighting | None, lease: Mapping[str, Any], now: float, timing: Timing) -> Sighting:
    """Read a Lease, which a person may have written. `now` is monotonic."""
    spec, version = lease.get("spec") or {}, str(lease["metadata"].get("resourceVersion", ""))
    seconds = numbers.whole(str(spec.get("leaseDurationSeconds")), 1, MAX_DURATION_SECONDS)
    return Sighting(
        holder=str(spec.get("holderIdentity") or "")[:MAX_HOLDER],
        version=version,
        seconds=seconds or timing.duration,
        since=before.since if before is not None and before.version == version else now,
        transitions=numbers.whole(str(spec.get("leaseTransitions")), 0, 2**31 - 2) or 0,
        acquired=str(spec.get("acquireTime") or "")[:64],
    )


def missing(before: Sighting | None, now: float) -> Sighting | None:
    """Note that there is no Lease; None where no holder of it is known. `now` is monotonic."""
    if before is None or not before.holder:
        return None
    return before if before.missing else replace(before, since=now, missing=True)


def decide(is_ours: Callable[[str], bool], seen: Sighting | None, now: float, timing: Timing) -> Step:
    """Say what to do about a Lease. A restarted holder goes on with it at once."""
    if seen is None:
        return Create()
    left = seen.since + seen.seconds - now
    if seen.missing:
        return Wait(seen.holder, min(left, timing.renew)) if left > 0 else Create()
    ours = is_ours(seen.holder)
    if ours or not seen.holder or left <= 0:
        return Take(seen.version, ours)
    return Wait(seen.holder, min(left, timing.renew))


def timestamp(now: datetime) -> str:
    """Return a Kubernetes `MicroTime`: its reader wants six digits, also where they are zeros."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
