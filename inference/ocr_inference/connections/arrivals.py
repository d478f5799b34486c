"""Decides in which order connections are taken that have arrived: in turn by the address that they come from.

The system hands them over in the order of their arrival. A client that opens them faster than they can be taken would
hold up those of all others, the kubelet's probes included; so it holds up its own. Values in, values out.
"""

from collections import deque
from ipaddress import IPv6Address
from typing import Final, Generic, TypeVar

PATIENCE_SECONDS: Final = 1.0
"""Time for which all places may be taken before connections are turned away: what arrives at once, such as the clients
of a load balancer that has started, is taken by then."""
_SITE_BITS: Final = 64
"""Of an IPv6 address: the rest is the client's to choose (RFC 4291, 2.5.1)."""

K = TypeVar("K")


class Arrivals(Generic[K]):
    """Connections that have arrived and aren't taken yet."""

    def __init__(self, most: int) -> None:
        """`most` may wait: where another one is put in, `turn_away` has one that must leave."""
        self._most = most
        self._count = 0
        self._by_source: dict[str, deque[K]] = {}
        """In the order of the sources' turns."""
        self._full_since: float | None = None

    def __len__(self) -> int:
        return self._count

    def patience(self, now: float) -> float:
        """Return the seconds for which nothing more should be accepted; 0 where one may be, if another is turned away
        for it where there is no room.

        Counted from the moment at which all places were taken, until half of them are free again.
        """
        if self._count < self._most or self._full_since is None:
            return 0.0
        return max(0.0, self._full_since + PATIENCE_SECONDS - now)

    def put(self, source: str, key: K, now: float) -> None:
        self._by_source.setdefault(source, deque()).append(key)
        self._count += 1
        if self._count >= self._most and self._full_since is None:
            self._full_since = now

    def take(self) -> K | None:
        """Return the one whose turn it is: the first of the source that has waited for longest for a turn."""
        if not self._by_source:
            return None
        source = next(iter(self._by_source))
        waiting = self._by_source.pop(source)
        key = waiting.popleft()
        if waiting:
            self._by_source[source] = waiting
        self._less()
        return key

    def turn_away(self) -> K | None:
        """Return the one that there is no room for: the last of the source that has most; None while there is room."""
        if self._count <= self._most:
            return None
        source = max(self._by_source, key=lambda each: len(self._by_source[each]))
        key = self._by_source[source].pop()
        if not self._by_source[source]:
            del self._by_source[source]
        self._less()
        return key

    def _less(self) -> None:
        self._count -= 1
        if self._count <= self._most // 2:
            self._full_since = None


def source(address: str) -> str:
    """Return what has one turn: an IPv4 address, or the network that an IPv6 address is of."""
    plain = address.removeprefix("::ffff:").partition("%")[0]
    if ":" not in plain:
        return plain
    return f"{int(IPv6Address(plain)) >> (128 - _SITE_BITS):x}::/{_SITE_BITS}"
