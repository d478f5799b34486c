"""Numbers of resources by condition: what alerts go by, without a series for each resource."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ocr_operator.resources.reading import mapping, mappings, text
from ocr_wire.conditions import CONDITIONS

STATUSES: Final = ("True", "False", "Unknown")


def counts(resources: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], int]:
    """Count resources for each condition that the operator writes and each status; all pairs are there, so that a
    series doesn't begin with the failure that it counts. What isn't known isn't counted.
    """
    found = {(each.type, status): 0 for each in CONDITIONS for status in STATUSES}
    for resource in resources:
        for condition in mappings(mapping(resource, "status"), "conditions"):
            pair = (text(condition, "type"), text(condition, "status"))
            if pair in found:
                found[pair] += 1
    return found
