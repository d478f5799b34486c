"""Decide which of several operators owns a namespace, by a Lease in it."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from ocr_operator.decide import leases
from ocr_operator.decide.leases import Sighting, Step, Timing, Wait

LEASE_NAME: Final = "ocr-operator-owner"
"""In each namespace the same one: the chart's role names it."""
TIMING: Final = Timing(duration=60, renew=20.0, valid=45.0)


class Whose(StrEnum):
    """Answer to the question whose a namespace is."""

    OURS = "owned"
    OTHERS = "foreign"
    UNKNOWN = "unknown"
    """Not looked at yet, or its Lease couldn't be renewed: nothing is written until that is known."""
    UNGUARDED = "unguarded"
    """This operator may not write Leases: it goes on as if there were no other."""


def sight(before: Sighting | None, lease: Mapping[str, Any], now: float) -> Sighting:
    """Read a Lease, which a person may have written. `now` is monotonic."""
    return leases.sight(before, lease, now, TIMING)


def decide(identity: str, seen: Sighting | None, now: float) -> Step:
    """Say what to do about a namespace. A restarted operator goes on with its Lease at once."""
    step = leases.decide(lambda holder: release(holder) == identity, seen, now, TIMING)
    return Wait(release(step.holder), step.seconds) if isinstance(step, Wait) else step


def release(holder: str) -> str:
    """Return the operator, `namespace/name`, that a holder belongs to: one of its replicas has a third part."""
    return "/".join(holder.split("/")[:2])


def spec(identity: str, now: datetime) -> dict[str, Any]:
    """Return the Lease that is written; the time is for people."""
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": TIMING.duration,
        "renewTime": leases.timestamp(now),
    }
