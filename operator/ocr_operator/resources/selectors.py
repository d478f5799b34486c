"""Label selectors of Kubernetes: which objects one means, by their labels."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from ocr_wire.text import whole

KEY_PATTERN: Final = whole(r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$")
VALUE_PATTERN: Final = whole(r"^([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?)?$")

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=317, pattern=KEY_PATTERN)]
Value = Annotated[str, msgspec.Meta(max_length=63, pattern=VALUE_PATTERN)]


class Requirement(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    key: Key
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: Annotated[tuple[Value, ...], msgspec.Meta(max_length=64)] = ()


class Selector(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """`metav1.LabelSelector`: all of it must hold; an empty one selects everything."""

    match_labels: Annotated[dict[str, Value], msgspec.Meta(max_length=64)] = {}
    match_expressions: Annotated[tuple[Requirement, ...], msgspec.Meta(max_length=16)] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            _holds(each, labels) for each in self.match_expressions
        )


def _holds(each: Requirement, labels: Mapping[str, str]) -> bool:
    match each.operator:
        case "In":
            return labels.get(each.key) in each.values
        case "NotIn":
            return labels.get(each.key) not in each.values
        case "Exists":
            return each.key in labels
        case "DoesNotExist":
            return each.key not in labels
