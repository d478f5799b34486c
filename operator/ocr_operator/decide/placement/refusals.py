"""Answers to requests that fit nowhere, for as long as nothing changes: replicas of a resource ask one after the other,
and hundreds of them may fit nowhere.
"""

from dataclasses import replace
from typing import Final

from ocr_operator.decide.placement.census import Census
from ocr_operator.decide.placement.topology import Population
from ocr_operator.decide.placement.types import NoFit, Request

MOST: Final = 16
"""Answers that are kept, the last ones; to compare a request with all of them takes some ten microseconds."""


class Refusals:
    """Written by its owner only, `NodeIndex`, which has it forget all with whatever changes of a node."""

    def __init__(self) -> None:
        self._answers: list[tuple[Request, NoFit]] = []
        self._present: Census | None = None
        self._changes = 0
        """State of `_present` in which they were decided."""

    def forget(self) -> None:
        self._answers, self._present = [], None

    def known(self, request: Request, population: Population | None) -> NoFit | None:
        """Return the answer to an equal request of another pod, if pods are where they were."""
        if not self._answers or not self._same(population):
            return None
        alike = _alike(request)
        return next((answer for asked, answer in reversed(self._answers) if asked == alike), None)

    def keep(self, request: Request, population: Population | None, answer: NoFit) -> None:
        if not self._same(population):
            self._answers = []
            self._present = population.present if population is not None else None
            self._changes = self._present.changes if self._present is not None else 0
        self._answers = [*self._answers[-MOST + 1 :], (_alike(request), answer)]

    def _same(self, population: Population | None) -> bool:
        present = population.present if population is not None else None
        return present is self._present and (present is None or present.changes == self._changes)


def _alike(request: Request) -> Request:
    """Return what equal requests of several pods have in common."""
    return replace(request, pod="", uid="")
