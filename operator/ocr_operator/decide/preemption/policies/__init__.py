"""Preemption policies: which idle models make way. One file each; the registry names them.

- `interface`: what a policy has to do.
- `fewest`: asks as few models as possible.
"""

from collections.abc import Mapping
from typing import Final

from ocr_operator.decide.preemption.policies.fewest import Fewest
from ocr_operator.decide.preemption.policies.interface import VictimPolicy

DEFAULT: Final[VictimPolicy] = Fewest()
POLICIES: Final[Mapping[str, VictimPolicy]] = {each.name: each for each in (DEFAULT,)}

__all__ = ["DEFAULT", "POLICIES", "VictimPolicy"]
