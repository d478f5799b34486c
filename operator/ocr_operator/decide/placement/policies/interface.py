"""The interface of placement policies."""

from typing import Protocol

from ocr_operator.decide.placement.candidate import Candidate


class PlacementPolicy(Protocol):
    """An order of candidates. What fits at all is decided before, for all policies alike."""

    @property
    def name(self) -> str:
        """The name as settings spell it: `leastLoaded`."""
        ...

    @property
    def superlative(self) -> str:
        """Name what the first candidate is among all that fit, for the sentence of the decision: `least loaded`."""
        ...

    def order(self, candidate: Candidate) -> tuple[object, ...]:
        """Sort key; the first is taken. It begins with `candidate.doubts` and ends with the names, so that equal
        inputs give equal answers in any order. More replicas, refusals or a higher price never make a candidate sort
        earlier: those are looked at last, and only for candidates that come first without them.
        """
        ...
