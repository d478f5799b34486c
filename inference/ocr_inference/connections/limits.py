"""How many connections there may be, by the files that this process may open; and for how long they may wait."""

from dataclasses import dataclass
from typing import Final

MOST: Final = 2048
"""Connections at most, unless a setting says otherwise: each takes about 9 kB."""
MOST_WATCHES: Final = 64
FEWEST: Final = 8
MOST_ARRIVALS: Final = 1024
"""Connections that may wait to be taken: as many as the system holds for us, so that those behind are seen, too."""
LOOKS: Final = 8
"""Places of probes, metrics and the state beyond those of ordinary requests."""
ADMINS: Final = 8
"""Places of calls with the admin token beyond those."""

_FILES_OF_THE_PROCESS: Final = 64
"""Listener, epoll, pipes, log, files that are read: 8 are open while nothing happens."""
_FILES_OF_A_MODEL: Final = 32
"""Its worker's pipes and the next one's, weights in memory, and pages still in the device after their client left."""
_FILES_OF_A_CONNECTION: Final = 2
"""Its socket, and the page that its request holds in memory."""


class TooFewFiles(Exception):
    """Limit of open files under which no server can work; says which would do."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds after which a connection that doesn't get on is ended."""

    head: float = 20.0
    """For the head of a request from its first byte, and for the first byte of a new connection."""
    idle: float = 75.0
    """Between two requests. Load balancers keep connections for 60 s, and must be the first to close them: one that
    sends a request into our closing answers its own client with 502."""
    stalled: float = 30.0
    """For `MIN_PROGRESS_BYTES` of an answer that waits to be sent, or all of it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of all connections of one server. Requests of a kind are served while fewer than its number run."""

    ordinary: int
    looks: int
    total: int
    """Also the number of sockets, those included that wait for a request; and the bound of admins."""
    arrivals: int = MOST_ARRIVALS
    """Connections beside those that wait to be taken."""
    times: Times = Times()

    @property
    def watches(self) -> int:
        """Requests of those that may watch the state, which they do for ever."""
        return min(MOST_WATCHES, self.ordinary // 4)


def of(files: int, models: int, most: int | None = None, times: Times | None = None) -> Limits:
    """Return the limits of a process that may open so many files; `most` is the setting.

    Raises `TooFewFiles`, and also where the setting needs more files than there are.
    """
    own, reserved = _FILES_OF_THE_PROCESS + _FILES_OF_A_MODEL * models, LOOKS + ADMINS
    fit = (files - own - FEWEST) // _FILES_OF_A_CONNECTION - reserved
    if fit < (least := most or FEWEST):
        need = own + FEWEST + _FILES_OF_A_CONNECTION * (least + reserved)
        raise TooFewFiles(
            f"this process may open {files} files, and {least} connections need {need}: raise the limit of open files"
            " (ulimit -n, LimitNOFILE)"
        )
    ordinary = most or min(fit, MOST)
    total = ordinary + reserved
    arrivals = min(MOST_ARRIVALS, files - own - _FILES_OF_A_CONNECTION * total)
    return Limits(ordinary, ordinary + LOOKS, total, arrivals, times or Times())
