"""Decide whether a roll-out makes the new pod before the old one goes.

It does where there is room for one pod more. Where there isn't, the new pod would wait at its gate for a GPU that only
its predecessor can give up, which stays until the new pod is ready: the roll-out would hang for ever. So an old pod
goes first then, which with one replica is a short gap in service.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from ocr_operator.resources.observed import Rollout, rollout
from ocr_operator.resources.reading import mapping

NEW_FIRST: Final = {"maxSurge": 1, "maxUnavailable": 0}
OLD_FIRST: Final = {"maxSurge": 0, "maxUnavailable": 1}
OVER_QUOTA: Final = re.compile(r"exceeded (?:\w+ )?quota")
"""As Kubernetes and its hierarchical namespaces say it. A quota that asks for limits says something else."""


def new_first(child: Mapping[str, Any] | None) -> bool:
    """Return what a Deployment that is there does; False for what a person has set, too."""
    if child is None:
        return False
    strategy = mapping(mapping(child, "spec"), "strategy")
    return mapping(strategy, "rollingUpdate") == NEW_FIRST


def asks_for_room(child: Mapping[str, Any] | None, *, changes: bool, waits: bool) -> bool:
    """Return whether it is to be found out again if there is room for one pod more: when the Deployment is about to be
    written (`changes`), and while it makes a pod that isn't placed (`waits`) or that a quota has no room for.

    A roll-out that goes on with the old pods first stays so: to and fro it would come to no end.
    """
    if child is None:
        return False
    return changes or (new_first(child) and _runs(rollout(child)) and (waits or over_quota(child)))


def over_quota(child: Mapping[str, Any] | None) -> bool:
    """Return whether Kubernetes is refused a pod by a quota, which has room again once an old pod is gone.

    Whatever else refuses one (a LimitRange, Pod Security, a webhook) would refuse it then, too, and none would serve.
    """
    if child is None:
        return False
    conditions = mapping(child, "status").get("conditions")
    return any(
        each.get("type") == "ReplicaFailure"
        and each.get("status") == "True"
        and OVER_QUOTA.search(str(each.get("message"))) is not None
        for each in (conditions if isinstance(conditions, list) else [])
        if isinstance(each, Mapping)
    )


def _runs(seen: Rollout) -> bool:
    return not seen.observed or seen.updated < seen.wanted or seen.replicas > seen.updated
