"""How patient a download is: values, the clock and the wait among them."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Pace:
    """The numbers are for links of a data centre that have a bad day."""

    connect_seconds: float = 10.0
    silence_seconds: float = 30.0
    """Without a byte; then a connection is given up."""
    floor_bytes_per_second: float = 1024.0
    """Slower than this, over `silence_seconds`, counts as silence: else a byte now and then would hold us for ever."""
    attempts: int = 5
    """In a row, without getting ahead."""
    delay_seconds: float = 0.5
    """Before the second attempt; doubled before each further one."""
    max_delay_seconds: float = 30.0
    poll_seconds: float = 0.5
    """Between looks at a download that another process is doing."""
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def told(cls, environ: Mapping[str, str]) -> Self:
        """With `silence_seconds` from `HF_HUB_DOWNLOAD_TIMEOUT`, as the hub's own tools; nonsense is passed over."""
        try:
            seconds = float(environ.get("HF_HUB_DOWNLOAD_TIMEOUT", ""))
        except ValueError:
            return cls()
        return cls(silence_seconds=seconds) if 0 < seconds < math.inf else cls()

    def delay(self, failed: int, told: float | None) -> float:
        """Seconds to wait after `failed` attempts in a row; what the hub has told is followed within reason."""
        return min(self.max_delay_seconds, max(told or 0.0, self.delay_seconds * 2.0 ** (failed - 1)))
