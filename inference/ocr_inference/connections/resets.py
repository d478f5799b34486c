"""Clients that leave while they are answered.

A client that closes its sending side after the request (`nc -N`, some proxies) looks like one that closes its socket:
both send a FIN. What tells them apart is that whatever is sent to a closed socket comes back as a reset. asyncio has
stopped reading by then and wouldn't notice it, so the sockets are in an `epoll` set of their own, without any event
asked for: it reports what can't be left out, which is errors and resets.
"""

import asyncio
import select
from collections.abc import Callable


class Resets:
    """Sockets that are watched for a reset; belongs to the loop that it is made in."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._gone: dict[int, Callable[[], None]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def watch(self, number: int, gone: Callable[[], None]) -> None:
        """Call `gone` once when the socket with this number is reset; `forget` it before it is closed."""
        if self._epoll.closed:  # The server goes down.
            return
        if number not in self._gone:
            self._epoll.register(number, 0)
        self._gone[number] = gone

    def forget(self, number: int) -> None:
        if self._gone.pop(number, None) is not None:
            self._epoll.unregister(number)

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._gone.clear()

    def _ready(self) -> None:
        for number, _ in self._epoll.poll(0):
            gone = self._gone[number]
            self.forget(number)
            gone()
