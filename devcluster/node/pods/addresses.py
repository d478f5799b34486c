"""Addresses of pods on one node: PREFIX.1 to PREFIX.253, all of them local on Linux when PREFIX is in 127/8.

Or one that all pods share.
"""

from collections import deque


class Addresses:
    """Addresses of which each belongs to one pod at a time; the one that has been free for longest is next."""

    def __init__(self, prefix: str, shared: str = "") -> None:
        self._shared = shared
        self._free = deque(f"{prefix}.{number}" for number in range(1, 254))

    def take(self, preferred: str = "") -> str:
        """Return a free address, `preferred` if that is one. There are more addresses than a node may have pods."""
        if self._shared:
            return self._shared
        if preferred in self._free:
            self._free.remove(preferred)
            return preferred
        return self._free.popleft()

    def give_back(self, address: str) -> None:
        """Make an address free again; "" and addresses that aren't pods' are ignored."""
        if address not in ("", self._shared) and not address.endswith(".254"):
            self._free.append(address)
