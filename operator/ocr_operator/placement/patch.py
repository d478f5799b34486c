"""A decision as one JSON patch: annotations, node affinity and the gate go together or not at all."""

from datetime import datetime
from typing import Any

from ocr_operator.observed import Pod
from ocr_operator.placement.types import Placement

Operation = dict[str, Any]


def patch(pod: Pod, placement: Placement, live: str, now: datetime) -> list[Operation]:
    """Binds a gated pod to its placement and stamps the live settings (an envelope as JSON text).

    Tests guard everything that the patch builds on, so a pod that changed in between refuses all of it (the
    API server answers 422, or 404 when the path is gone): look again. ValueError for a pod that isn't gated.
    """
    raise NotImplementedError


def stamp(pod: Pod, annotations: dict[str, str]) -> list[Operation]:
    """Sets annotations of a pod, for example newer live settings; empty when they are already there."""
    raise NotImplementedError
