"""Placement policies: which of the GPUs or nodes that fit is taken. One file each; the registry names them.

    POLICIES["binPack"].order(candidate)   # the candidate that sorts first is taken

- `interface`: what a policy has to do.
- `least_loaded`: spreads pods.
- `bin_pack`: fills GPUs one by one.
"""

from collections.abc import Mapping
from typing import Final

from ocr_operator.decide.placement.policies.bin_pack import BinPack
from ocr_operator.decide.placement.policies.interface import PlacementPolicy
from ocr_operator.decide.placement.policies.least_loaded import LeastLoaded

DEFAULT: Final[PlacementPolicy] = LeastLoaded()
POLICIES: Final[Mapping[str, PlacementPolicy]] = {each.name: each for each in (DEFAULT, BinPack())}
"""By the name that `OCR_OPERATOR_PLACEMENT_POLICY` takes."""

__all__ = ["DEFAULT", "POLICIES", "PlacementPolicy"]
