"""Loopback addresses: every cluster of a machine gets a block 127.N.0.0/16 of its own.

Linux answers on all of 127.0.0.0/8, so a cluster with its own block can give fixed ports to its parts and an address to
each pod without ever meeting another cluster's.
"""

import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from devcluster.errors import StartFailed

FIRST, LAST = 10, 249
"""Blocks that clusters take; 127.0 and 127.1 stay with the machine (127.0.0.53 and 127.0.1.1 are taken on many)."""


@dataclass(frozen=True)
class Block:
    """Block of addresses that a cluster has claimed.

    The claim is an abstract Unix socket: the kernel drops it when the process ends, however it ends, and it is seen by
    exactly the processes that share the loopback interface (one network namespace).
    """

    number: int
    claim_socket: socket.socket

    @classmethod
    def claim(cls, candidates: Iterable[int] | None = None) -> "Block":
        """Take a block that no other cluster holds."""
        for number in (
            candidates if candidates is not None else random.sample(range(FIRST, LAST + 1), LAST - FIRST + 1)
        ):
            claim = socket.socket(socket.AF_UNIX)
            try:
                claim.bind(f"\0ocr-operator-devcluster-127.{number}")
            except OSError:
                claim.close()
                continue
            return cls(number, claim)
        raise StartFailed(
            f"all blocks 127.{FIRST} to 127.{LAST} are taken by running clusters: end some with `down`"
        )

    @property
    def api_server(self) -> str:
        return f"127.{self.number}.0.1"

    def prefix(self, node: int) -> str:
        """Return the first three numbers of the addresses of the node with this position, counted from 1."""
        return f"127.{self.number}.{node}"


def claim_ipv6() -> socket.socket:
    """Claim `::1` for this process: Linux answers on no other address of IPv6 that needs no root to be set up."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        raise StartFailed(f"this machine has no IPv6 at ::1: {error.strerror}") from error
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind("\0ocr-operator-devcluster-ipv6")
    except OSError as error:
        claim.close()
        raise StartFailed("another cluster of this machine has its node of IPv6: there is one ::1") from error
    return claim


def free_port(address: str, preferred: int) -> int:
    """Return a free TCP port: the preferred one, unless a server of the machine has it on all addresses.

    Between this check and the use no other cluster can take it, as the address belongs to the caller's block.
    """
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StartFailed(f"no free TCP port on {address}")
