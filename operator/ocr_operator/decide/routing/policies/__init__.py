"""Routing policies: which pods a resource's Service selects. One file each; the registry names them.

- `interface`: what a policy has to do.
- `warm_first`: keeps as few pods awake as the queue allows.
- `all_pods`: keeps all awake.
"""

from collections.abc import Mapping
from typing import Final

from ocr_operator.decide.routing.policies.all_pods import AllPods
from ocr_operator.decide.routing.policies.interface import RoutingPolicy
from ocr_operator.decide.routing.policies.warm_first import WarmFirst

POLICIES: Final[Mapping[str, RoutingPolicy]] = {each.name: each for each in (WarmFirst(), AllPods())}
"""By the name in `spec.routing.policy`."""

__all__ = ["POLICIES", "RoutingPolicy"]
