"""The interface of preemption policies."""

from collections.abc import Iterable
from typing import Protocol

from ocr_operator.decide.preemption.types import Resident


class VictimPolicy(Protocol):
    """Which of the idle models that may be asked make way for a waiter."""

    @property
    def name(self) -> str: ...

    def choose(self, lack_bytes: int, candidates: Iterable[Resident]) -> tuple[Resident, ...]:
        """Choose models that together hold at least `lack_bytes`; none where all of them don't."""
        ...

    def reason(self, count: int) -> str:
        """Why a model is among the `count` chosen ones: the end of the sentence of the decision."""
        ...
