"""Whether an ended container runs again, and when. Pure.

The delays are a tenth of a real kubelet's (10 s doubling to 300 s): a crash loop shows within a test's patience.
"""

from dataclasses import dataclass
from typing import Literal

FIRST_SECONDS = 1.0
CAP_SECONDS = 30.0
CALM_SECONDS = 60.0
"""A container that ran this long starts with a fresh back-off (a real kubelet: 600 s)."""

Policy = Literal["Always", "OnFailure", "Never"]


@dataclass(frozen=True)
class Backoff:
    """Number of ends in a row of a container that didn't run for `CALM_SECONDS`."""

    failures: int = 0

    def after_run(self, seconds: float) -> "Backoff":
        """Count one more end, of a run that lasted `seconds`."""
        return Backoff(1 if seconds >= CALM_SECONDS else self.failures + 1)

    @property
    def delay(self) -> float:
        """Seconds to wait before the next start."""
        if not self.failures:
            return 0.0
        return min(FIRST_SECONDS * 2.0 ** min(self.failures - 1, 10), CAP_SECONDS)


def retry_seconds(failures: int) -> float:
    """Return the seconds until the next try to start a container that failed so often in a row: few at first.

    A node's right to read a Secret follows the binding of the pod that needs it by a moment.
    """
    return min(0.1 * 2.0 ** min(failures, 10), 3.0)


def again(policy: Policy, exit_code: int) -> bool:
    """Return whether `policy` starts a container again that ended with `exit_code`."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def of_container(pod_policy: Policy, own: Policy | None, *, init: bool) -> Policy:
    """Return the policy of one container: init containers never run again after success, unless they are sidecars."""
    if own is not None:
        return own
    if init:
        return "Never" if pod_policy == "Never" else "OnFailure"
    return pod_policy
