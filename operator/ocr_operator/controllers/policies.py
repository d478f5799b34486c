"""Reconciling policies: writes their statuses, and enqueues resources when windows open and close.

A pass over a policy is level-based like one over a resource, and is repeated at the next opening or closing.
What a policy does to a resource is decided in the passes over that resource, which are enqueued here.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from ocr_operator.controllers.cluster_state import ClusterState
from ocr_operator.decide import status
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.resources import windows
from ocr_operator.resources.observed import Key
from ocr_operator.resources.policies import Policy

CLOCK_SECONDS: Final = 60.0
"""A policy with windows has its next pass after so long at most: the wall clock may be set, and machines sleep."""

REPEAT_SECONDS: Final = 300.0
"""Between two writes of the same status: operators of other namespaces count other resources, and write it, too."""

log = logging.getLogger(__name__)


class PolicyController:
    """Passes over policies, which have no namespace: their key is `("", name)`."""

    def __init__(
        self,
        kube: api.Kube,
        cluster: ClusterState,
        *,
        forget: Callable[[Key], None],
        metrics: Metrics,
        now: Callable[[], datetime],
        time: Callable[[], float],
    ) -> None:
        """`forget` takes a policy that is gone out of the queue; `time` is monotonic, in seconds."""
        self._kube = kube
        self._cluster = cluster
        self._forget = forget
        self._metrics = metrics
        self._now = now
        self._time = time
        self._written: dict[str, tuple[api.Json, float]] = {}
        """What each status said, without its conditions, when it was last written."""
        self._active: dict[str, bool] = {}
        """Whether each policy with windows was active when the resources were last enqueued for it."""

    async def reconcile(self, key: Key) -> float | None:
        """Run one pass; returns the seconds until the next one, None for "when something changes".

        Raises `api.KubeError`.
        """
        policy = self._cluster.policies.get(key)
        if policy is None:
            self._active.pop(key[1], None)
            self._written.pop(key[1], None)
            self._forget(key)
            return None
        now = self._now()
        again = self._follow(policy, now)
        early = await self._write(policy, status.policy(policy, self._cluster.policy_usage(), now))
        return min((each for each in (again, early) if each is not None), default=None)

    def _follow(self, policy: Policy, now: datetime) -> float | None:
        """Enqueue the selected resources if the policy became active or inactive since the last pass."""
        if policy.rejection is not None or not policy.spec.windows:
            self._active.pop(policy.name, None)
            return None
        active = policy.active(now)
        if self._active.get(policy.name) is not active:
            self._active[policy.name] = active
            log.info("policy %s is %s", policy.name, "active" if active else "outside its windows")
            self._cluster.enqueue_selected(policy)
        change = windows.next_change(policy.spec.windows, now)
        return min(CLOCK_SECONDS, (change - now).total_seconds()) if change else CLOCK_SECONDS

    async def _write(self, policy: Policy, after: api.Json) -> float | None:
        """Write a status that differs; returns the seconds to wait if this very one was written not long ago."""
        if after == policy.status:
            return None
        said = {name: value for name, value in after.items() if name != "conditions"}
        before, at = self._written.get(policy.name, ({}, 0.0))
        whole = after.keys() <= policy.status.keys()  # else a person wrote it, not another operator
        if whole and said == before and (early := at + REPEAT_SECONDS - self._time()) > 0:
            return early
        ref = api.Ref(api.OCR_IDLE_POLICY, "", policy.name)
        try:
            answer = await self._kube.apply_status(ref, after, resource_version=policy.version)
        except api.NotFound:
            return None
        except api.KubeError as error:
            self._metrics.status_writes.labels("failed").inc()
            if isinstance(error, api.Conflict):
                self._cluster.policies.put(await self._kube.get(ref))
            raise
        self._metrics.status_writes.labels("written").inc()
        self._written[policy.name] = (said, self._time())
        self._cluster.policies.put(answer)
        return None
