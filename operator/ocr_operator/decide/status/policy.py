"""The status of an `OcrIdlePolicy`: whether it counts now, and in how many resources. See docs/crd-idle-policy.md."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from ocr_operator.decide.status.aggregate import renewed
from ocr_operator.decide.status.conditions import Verdict
from ocr_operator.resources import observed, windows
from ocr_operator.resources.effective import PolicyUsage
from ocr_operator.resources.policies import Policy

KINDS: Final = ("Accepted",)


def policy(policy: Policy, policy_usage: Iterable[PolicyUsage], now: datetime) -> dict[str, Any]:
    """The complete status. It has no value that ticks: `nextChange` moves when a window opens or closes."""
    mine = [each for each in policy_usage if policy.name in each.selected]
    winning = sum(policy.name in each.winners for each in mine)
    overridden = sum(policy.name in each.losers for each in mine)
    verdict = _accepted(policy, len(mine), winning, overridden)
    status: dict[str, Any] = {
        "observedGeneration": policy.generation,
        "active": policy.active(now),
        "matched": len(mine),
        "effective": winning,
        "overridden": overridden,
        "conditions": renewed(policy.status, {"Accepted": verdict}, policy.generation, now, KINDS),
    }
    change = None if policy.rejection else windows.next_change(policy.spec.windows, now)
    if change is not None:
        status["nextChange"] = observed.stamp(change)
    return status


def _accepted(policy: Policy, matched: int, winning: int, overridden: int) -> Verdict:
    if policy.rejection is not None:
        return Verdict("False", policy.rejection.reason, policy.rejection.message)
    text = f"sets values of {winning} of the {matched} resources that it selects"
    if overridden:
        text += f"; in {overridden} the resource itself or a stronger policy wins"
    return Verdict("True", "Accepted", text)
