"""The part of the spec that changes without a new pod: its values, their hash, their revision, their
envelope.

A pod applies an envelope only if its revision is newer than the one it runs with, so neither a second leader
nor a late retry turns the clock back. The revision lives in `status.liveSettings` and is raised here, by
comparison of hashes only: the same values never get a second revision.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from ocr_operator import spec as specs


class Revision(msgspec.Struct, frozen=True):
    """What `status.liveSettings` holds: a counter that only grows, and the hash of the values it stands for."""

    revision: int
    hash: str


class InvalidLiveSettings(msgspec.Struct, frozen=True):
    """Why a text (a pod's annotation, which anybody with access to pods can edit) is no envelope."""

    message: str


class LiveSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope, the same in the pod's annotation, its file, `PUT /v1/settings` and the echo."""

    generation: int
    revision: int
    hash: str
    values: Mapping[str, Any]

    def to_json(self) -> str:
        """Deterministic: equal envelopes give equal text."""
        raise NotImplementedError


def values(spec: specs.Spec) -> dict[str, Any]:
    """The live fields of a spec; the timeouts of each model are already merged with `spec.idle`."""
    raise NotImplementedError


def digest(live: Mapping[str, Any]) -> str:
    """16 hex digits of SHA-256 over the canonical JSON: the same in the pod, whatever the order of keys."""
    raise NotImplementedError


def advance(before: Revision | None, live: Mapping[str, Any]) -> Revision:
    """The revision for these values: `before` if they hash the same, else one more (the first one is 1)."""
    raise NotImplementedError


def revision(status: Mapping[str, Any]) -> Revision | None:
    """What a status holds under `liveSettings`; None when there is none yet or it was damaged by hand."""
    raise NotImplementedError


def parse(text: str | bytes) -> LiveSettings | InvalidLiveSettings:
    """Reads an envelope from a pod's annotation. Never raises."""
    raise NotImplementedError
