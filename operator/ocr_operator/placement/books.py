"""The operator's books: who was promised which GPU. Kept nowhere but on the pods themselves."""

from collections.abc import Iterable, Mapping

from ocr_operator.observed import Pod
from ocr_operator.placement.types import Reservation


def ledger(
    pods: Iterable[Pod],
    needs: Mapping[str, int] | None = None,
    uses: Mapping[str, int] | None = None,
) -> tuple[Reservation, ...]:
    """Reservations of all placed pods, in order of their names.

    `needs`: bytes a pod of `namespace/name` (the resource) needs, for pods whose annotation is missing or
    damaged. `uses`: pod UID → bytes that its models hold now, from its state. Strangers' pods may be among
    `pods`: they count for the extended resources that they request.
    """
    raise NotImplementedError


def merge(books: Iterable[Reservation], recent: Iterable[Reservation]) -> tuple[Reservation, ...]:
    """`books` and those of `recent` (placed by us, not yet seen in the watch) that they don't have by UID."""
    raise NotImplementedError
