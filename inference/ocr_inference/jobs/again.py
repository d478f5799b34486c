"""Decides whether a page of a job is tried again, and whether what failed concerns the other pages, too.

A worker's death isn't among it: the lease reads such a page once more by itself.
"""

from collections.abc import Mapping
from typing import Final

from ocr_inference.errors import ApiError

DELAYS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before each further try; a load that fails is begun anew by a later one."""
BUSY_SECONDS: Final = 1.0
"""Seconds before a page asks again for a place that other requests have: nothing is wrong, so it is never given up."""

LATE: Final = "deadline_exceeded"
LATE_TRIES: Final = 2
"""Further tries of a page whose deadline passed: its model may be downloaded for longer than a request waits, and a
page that hangs must come to its end."""

BUSY: Final = frozenset({"queue_full", "uploads_busy"})
OF_MODEL: Final[Mapping[str, bool]] = {
    "load_failed": True,
    "gpu_memory": True,
    "source_unavailable": True,
    "disk_full": True,
    "out_of_descriptors": True,
    "invalid_checkpoint": False,
    "model_not_found": False,
    "no_fit": False,
    "draining": False,
}
"""Codes of errors that concern each page of the model, and whether a later try may do better."""


def delay(error: ApiError, tries: int) -> float | None:
    """Return the seconds to wait before the next try after `tries` of them; None where the page fails."""
    if error.code in BUSY:
        return BUSY_SECONDS
    if error.code == LATE:
        return BUSY_SECONDS if tries <= LATE_TRIES else None
    if not OF_MODEL.get(error.code, False) or tries > len(DELAYS):
        return None
    return max(DELAYS[tries - 1], error.retry_after_seconds or 0.0)


def ends_job(error: ApiError) -> bool:
    """Return whether the whole job fails with this error of a page."""
    return error.code in OF_MODEL
