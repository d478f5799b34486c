"""What is known of a pod whose state can't be had."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """The pod runs, but its state can't be had: no connection, no token, an answer that can't be believed.

    `message` must not tick (no ages, no attempt counters): equal problem, equal text.
    """

    reason: str
    """CamelCase, such as `Unreachable`, `InvalidState`."""
    message: str
