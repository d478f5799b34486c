"""A limit of how often something may happen: some at once, then so many a second. A value; time is an argument."""

from typing import NamedTuple


class RateLimiter(NamedTuple):
    """A bucket of `burst` tokens that gets `rate` new ones a second; it is full at first."""

    rate: float
    burst: float
    spent: float = 0.0
    at: float = float("-inf")
    """When `spent` was right."""

    def spend(self, now: float) -> tuple["RateLimiter", float]:
        """Take a token; the seconds to wait for it, 0 while there is one. A clock that goes back gives none."""
        rate, burst, spent, at = self
        now = max(now, at)
        spent = max(0.0, spent - (now - at) * rate) + 1.0
        return RateLimiter(rate, burst, spent, now), max(0.0, spent - burst) / rate

    def take(self, now: float) -> tuple["RateLimiter", float]:
        """Take a token if there is one, else none; the seconds until there is one, 0 if one was taken."""
        after, wait = self.spend(now)
        return (self if wait else after), wait
