"""`leastLoaded`: the GPU or node with the smallest part of its memory promised or used. Spreads pods."""

from typing import Final

from ocr_operator.decide.placement.candidate import Candidate

BUSY_STEPS: Final = 20
"""Utilisation is compared in steps of 5 %: it moves by more from one second to the next."""


class LeastLoaded:
    name = "leastLoaded"
    superlative = "least loaded"

    def order(self, candidate: Candidate) -> tuple[object, ...]:
        """Sort the least loaded first.

        1. no doubts: not refused by the scheduler, known before unknown  2. share of memory promised or used
        3. fewest replicas of the same resource  4. share of memory in use now  5. utilisation  6. fewest pods  7. names
        """
        return (
            candidate.doubts,
            round(candidate.share, 6),
            candidate.siblings,
            round(candidate.live, 2),
            round(candidate.busy * BUSY_STEPS),
            candidate.tenants,
            (candidate.node, candidate.gpu.uuid if candidate.gpu else ""),
        )
