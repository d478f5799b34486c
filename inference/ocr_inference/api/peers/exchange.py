"""What a pod that hands a page over and the pod that reads it say to each other.

Both are of one version: a page for another version is refused (409), and is read where it waited. The request is a form
with the page in `file` and `Asked` as JSON in `asked`; the answer is frames, as those of a worker: any number of
`Delta`, then the `PageResult` or the `Failure`.
"""

from typing import Annotated, Final

import msgspec

from ocr_inference.protocol.engine import Delta, Failure, FailureKind, PageOptions, PageResult
from ocr_wire.settings import MAX_SECONDS

FIELD: Final = "asked"
MEDIA_TYPE: Final = "application/vnd.ocr-operator.frames"

Part = Delta | PageResult | Failure
"""Part of an answer."""

OF_THE_PAGE: Final = frozenset(
    {
        FailureKind.INVALID_IMAGE,
        FailureKind.IMAGE_TOO_LARGE,
        FailureKind.UNSUPPORTED,
        FailureKind.PAGE_KILLS_WORKER,
    }
)
"""Failures that the page would have anywhere; after any other one it is read where it waited."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Request for one page."""

    version: str
    model: str
    options: PageOptions
    waited: Annotated[float, msgspec.Meta(ge=0, le=MAX_SECONDS)] = 0.0
    """Seconds for which it has waited: it keeps its place among the pages of the other pod."""
    stream: bool = False
    """Whether the answer is wanted in pieces, as it is written."""
