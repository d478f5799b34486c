"""Socket that a server listens at: of IPv6 and IPv4 together where the machine has both."""

import errno
import socket
from typing import Final

BACKLOG: Final = 1024
"""Connections that the system holds while the loop is busy."""
ALL: Final = ""
"""Host that means every address of the machine."""

_NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL)
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
"""Seconds of silence before the system asks whether the other machine is there, between two questions, and how many."""


class CannotListen(Exception):
    """Address that is taken or isn't this machine's; says which and why."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        self.is_taken = error.errno == errno.EADDRINUSE
        self.is_of_host = error.errno == errno.EADDRNOTAVAIL or (error.errno or 0) < 0
        """Whether no port would do. Name resolution has codes of its own, below 0 (gai_strerror)."""
        # `socket.create_server` adds the address, which stands here already.
        why = (error.strerror or str(error)).partition(" (while ")[0]
        super().__init__(f"can't listen at {shown(host, port)}: {why}")


_SLACK_SECONDS: Final = 5.0
"""Time that the system waits longer than we do, so that we can say why a connection ends."""


def listen(host: str, port: int, stalled_seconds: float, *, dual_stack: bool | None = None) -> socket.socket:
    """Listen at `host`, which may be `ALL`; raises `CannotListen`.

    `::` is of IPv4, too. `dual_stack` says whether the machine has IPv6 (None: look). A machine that vanishes without a
    word is noticed by the system, and its connections end, some seconds more than `stalled_seconds` after something was
    sent to it.
    """
    dual_stack = socket.has_dualstack_ipv6() if dual_stack is None else dual_stack
    try:
        listener = _bound(host, port, dual_stack)
    except OSError as error:
        raise CannotListen(host, port, error) from error
    # Inherited by what is accepted.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (*_KEEPALIVE, ("TCP_USER_TIMEOUT", int((stalled_seconds + _SLACK_SECONDS) * 1000))):
        listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    listener.setblocking(False)
    return listener


def _bound(host: str, port: int, dual_stack: bool) -> socket.socket:
    if host == ALL and dual_stack:
        try:
            return _bound("::", port, dual_stack)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
    if ":" not in host:
        return socket.create_server((host, port), backlog=BACKLOG)
    both = dual_stack and host == "::"
    return socket.create_server((host, port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=both)


def url(listener: socket.socket) -> str:
    """Return the URL at which this machine reaches the listener."""
    host, port = listener.getsockname()[:2]
    if host == "::" and not listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        host = "0.0.0.0"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{shown(host, port)}"


def client(remote: str | None) -> str:
    """Return a client's address for people; IPv4 as such, also where it arrives at a socket of IPv6."""
    return (remote or "").removeprefix("::ffff:")


def shown(host: str, port: int) -> str:
    """Return address and port as URLs have them (RFC 3986, 3.2.2; of a zone RFC 6874)."""
    return f"[{host.replace('%', '%25')}]:{port}" if ":" in host else f"{host or '*'}:{port}"
