"""Timeouts and retries of a download, with the clock and the sleep that it uses."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from ocr_wire import numbers
from ocr_wire.settings import MAX_SECONDS


@dataclass(frozen=True)
class RetryPolicy:
    """Timeouts and retries; the defaults suit a slow or unreliable link of a data centre."""

    connect_seconds: float = 10.0
    idle_timeout_seconds: float = 30.0
    """Seconds without a byte after which a connection is given up."""
    floor_bytes_per_second: float = 1024.0
    """Slower than this, over `idle_timeout_seconds`, counts as idle: else a byte now and then would hold it open."""
    attempts: int = 5
    """In a row, without progress."""
    delay_seconds: float = 0.5
    """Before the second attempt; doubled before each further one."""
    max_delay_seconds: float = 30.0
    poll_seconds: float = 0.5
    """Between checks of a download that another process is doing."""
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Return the policy with `HF_HUB_DOWNLOAD_TIMEOUT`, as the hub's own tools have it; nonsense is ignored."""
        seconds = numbers.decimal(environ.get("HF_HUB_DOWNLOAD_TIMEOUT", ""), 0, MAX_SECONDS)
        return cls(idle_timeout_seconds=seconds) if seconds else cls()

    def delay(self, failed: int, requested: float | None) -> float:
        """Return the seconds to wait after `failed` attempts in a row; the hub's `requested` ones up to the maximum."""
        return min(self.max_delay_seconds, max(requested or 0.0, self.delay_seconds * 2.0 ** (failed - 1)))
