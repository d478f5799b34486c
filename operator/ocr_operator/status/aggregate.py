"""The status itself."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ocr_operator.spec import InvalidSpec, OcrDeployment
from ocr_operator.status.types import Seen


def aggregate(resource: OcrDeployment, seen: Seen, now: datetime) -> dict[str, Any]:
    """The complete status. `now` is used only for what changed against `resource.status`, so equal inputs give
    an equal status, and feeding the answer back changes nothing.
    """
    raise NotImplementedError


def stalled(body: Mapping[str, Any], problem: InvalidSpec, now: datetime) -> dict[str, Any]:
    """The status of a resource that doesn't parse: what was known before, and `Stalled=True`."""
    raise NotImplementedError
