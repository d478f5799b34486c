"""`binPack`: the GPU or node with the largest part promised or used that still fits. Keeps others free."""

from ocr_operator.decide.placement.candidate import Candidate
from ocr_operator.decide.placement.policies.least_loaded import BUSY_STEPS


class BinPack:
    name = "binPack"
    superlative = "most loaded"

    def order(self, candidate: Candidate) -> tuple[object, ...]:
        """Sort the most loaded first.

        1. no doubts: not refused by the scheduler, known before unknown  2. largest part of the node's devices taken
        3. largest share of memory promised or used  4. fewest replicas of the same resource, so that equal GPUs don't
        fail together  5. utilisation, the least first: it isn't what is packed  6. names
        """
        return (
            candidate.doubts,
            -round(candidate.allocated, 6),
            -round(candidate.share, 6),
            candidate.siblings,
            round(candidate.busy * BUSY_STEPS),
            (candidate.node, candidate.gpu.uuid if candidate.gpu else ""),
        )
