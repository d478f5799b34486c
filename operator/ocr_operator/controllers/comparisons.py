"""What is known of children that need nothing written, so that the same ones aren't compared again.

A resource has dozens of passes for each change of its children. Neither manifests nor children are kept for that, only
the objects that the informers hold anyway.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ocr_operator.decide.plan import Plan
from ocr_operator.kube import api
from ocr_operator.resources.spec import Spec


@dataclass(frozen=True, slots=True)
class MadeFrom:
    """Sources of the manifests of a resource: equal ones give equal manifests."""

    generation: int
    spec: Spec
    """The effective one."""
    token: str = field(repr=False)
    new_first: bool
    """Whether a roll-out begins with a new pod."""
    with_budget: bool


@dataclass(slots=True)
class Comparison:
    """Children that were compared with what is wanted, and need nothing written."""

    made_from: MadeFrom
    owned: Sequence[api.Json]
    plan: Plan
    held: bool
    """Whether the template waits for its turn."""

    def fits(self, made_from: MadeFrom, owned: Sequence[api.Json]) -> bool:
        """Return whether these are the same objects, but for what they report, and what is wanted is the same.

        Those that were seen last are kept: older ones would stay in memory beside them.
        """
        if made_from != self.made_from or len(owned) != len(self.owned):
            return False
        if not all(_alike(each, known) for each, known in zip(owned, self.owned, strict=True)):
            return False
        self.made_from, self.owned = made_from, owned
        return True


_REPORTED: Final = frozenset({"resourceVersion", "generation"})
"""Metadata that changes with a status."""


def _alike(new: api.Json, known: api.Json) -> bool:
    if new is known:
        return True
    (meta, rest), (known_meta, known_rest) = _without_status(new), _without_status(known)
    return meta == known_meta and rest == known_rest


def _without_status(item: api.Json) -> tuple[api.Json, api.Json]:
    meta = {key: value for key, value in item["metadata"].items() if key not in _REPORTED}
    return meta, {key: value for key, value in item.items() if key not in ("metadata", "status")}
