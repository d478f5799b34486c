"""Decides whether a call is made again, and when; pure."""

from typing import Final

from ocr_wire import numbers

DELAYS: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further try where the server says nothing of it."""
MOST_SECONDS: Final = 60.0
"""Longest wait before one try, whatever the server says."""
PATIENCE_SECONDS: Final = 900.0
"""Time that a call waits for a server that is busy, over all its tries."""
MOST_UNREACHED: Final = 4
"""Tries of a call at a server that can't be reached."""
LATER: Final = frozenset({429, 502, 503, 504})
"""Statuses after which the same call may succeed; those of proxies among them."""


def delay(
    status: int | None,
    retry_after: str | None,
    *,
    tries: int,
    waited: float,
    patience: float = PATIENCE_SECONDS,
) -> float | None:
    """Return the seconds to wait after `tries` of a call that failed with this status, None where no answer came;
    None where it isn't tried again. `waited` is how long it has been waited for already."""
    own = DELAYS[min(tries, len(DELAYS)) - 1]
    if status is None:
        return own if tries < MOST_UNREACHED and waited + own <= patience else None
    if status not in LATER:
        return None
    said = None if retry_after is None else numbers.whole(retry_after.strip(), 0, 86_400)
    seconds = own if said is None else max(float(said), DELAYS[0])
    seconds = min(seconds, MOST_SECONDS)
    return seconds if waited + seconds <= patience else None
