"""Decides how many pages of a model's jobs are read at a time: few, since a client waits for each other request."""

from typing import Final

ALONE: Final = 1
"""Pages of a model that reads one at a time. The next one is rendered meanwhile, so nothing is won by a second one that
waits beside the model, and each request would wait for it, too."""


def window(max_pages: int, others: int, *, together: bool) -> int:
    """Return how many pages may be begun. `max_pages`: pages that the settings let the model read at a time; `others`:
    requests for the model that aren't pages of jobs; `together`: whether it gains from reading several at a time."""
    if not together:
        return ALONE
    half = max(1, max_pages // 2)
    return half if others else max(2, half)
