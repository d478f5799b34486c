"""Decide which of several replicas of the operator works, by one Lease in its namespace."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from ocr_operator.decide import leases
from ocr_operator.decide.leases import Create, Sighting, Step, Take, Timing, Wait

TIMING: Final = Timing(duration=15, renew=2.0, valid=10.0)
"""client-go's own numbers: lease duration, retry period and renew deadline of its leader election."""
LOOK_SECONDS: Final = 0.5
"""Between two looks of a replica that waits: a Lease that is given back is taken within that time."""


def sight(before: Sighting | None, lease: Mapping[str, Any], now: float) -> Sighting:
    """Read the Lease, which a person may have written. `now` is monotonic."""
    return leases.sight(before, lease, now, TIMING)


def decide(replica: str, seen: Sighting | None, now: float) -> Step:
    """Say what to do about the Lease. A container that was restarted in its pod goes on at once."""
    return leases.decide(lambda holder: holder == replica, seen, now, TIMING)


def is_lost(step: Step, seen: Sighting | None) -> bool:
    """Return whether a replica that worked has to begin afresh: another has worked, or may have while there was no
    Lease to tell.
    """
    missing = seen is not None and seen.missing
    match step:
        case Wait():
            return not missing
        case Take():
            return not step.ours
        case Create():
            return missing


def spec(replica: str, seen: Sighting | None, now: datetime) -> dict[str, Any]:
    """Return the Lease of the replica that works from now on, or still does. Its times are for people."""
    time = leases.timestamp(now)
    same = seen is not None and seen.holder == replica
    return {
        "holderIdentity": replica,
        "leaseDurationSeconds": TIMING.duration,
        "renewTime": time,
        "acquireTime": (seen.acquired or time) if seen is not None and same else time,
        "leaseTransitions": 0 if seen is None else seen.transitions + (not same),
    }


def given_back(seen: Sighting, now: datetime) -> dict[str, Any]:
    """Return the Lease without a holder, so that another replica need not wait for its end."""
    return {
        "holderIdentity": "",
        "leaseDurationSeconds": 1,  # 0 isn't allowed
        "renewTime": leases.timestamp(now),
        "acquireTime": seen.acquired or leases.timestamp(now),
        "leaseTransitions": seen.transitions,
    }
