"""Parts that Kubernetes objects have in common."""

from typing import Any

import msgspec

from ocr_wire.text import Counter, Time


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Part of an object; unknown fields are ignored."""


class ManagedFields(Part, frozen=True):
    """Fields that one manager has written."""

    manager: str = ""
    operation: str = ""
    """`Apply`, or `Update` for every other way."""
    subresource: str = ""
    fields_v1: dict[str, Any] = msgspec.field(default_factory=dict)


class Metadata(Part, frozen=True):
    name: str
    namespace: str = ""
    generation: Counter = 0
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    managed_fields: list[ManagedFields] = msgspec.field(default_factory=list)
    """Only where they were asked for."""


class Condition(Part, frozen=True):
    type: str
    status: str
    reason: str = ""
    message: str = ""
    observed_generation: Counter | None = None


class Named(Part, frozen=True):
    """Object of which only labels matter, such as a definition or a RuntimeClass."""

    metadata: Metadata
