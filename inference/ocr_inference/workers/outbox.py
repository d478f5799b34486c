"""Calls on their way to a worker: sent in order, as fast as it takes them, without ever blocking the loop.

A worker that doesn't read fills its socket; what comes then waits here. That is bounded by the leases on its model,
since a page without an answer holds one.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ocr_inference.protocol import packets
from ocr_inference.protocol.page_file import PageFile


@dataclass(frozen=True)
class _Packet:
    data: bytes
    file: PageFile | None
    failed: Callable[[OSError], None]

    def send(self, connection: socket.socket) -> None:
        if self.file is None:
            packets.send(connection, self.data)
            return
        # The worker gets a descriptor that only reads, at a position of its own.
        with self.file.duplicate() as file:
            packets.send(connection, self.data, (file.fileno(),))


class Outbox:
    """Sending end of a worker's calls. A worker that has ended takes all of them: its end is noticed elsewhere."""

    def __init__(self, connection: socket.socket) -> None:
        """Take `connection` over."""
        connection.setblocking(False)
        self._connection = connection
        self._waiting: deque[_Packet] = deque()

    def send(self, data: bytes, file: PageFile | None, failed: Callable[[OSError], None]) -> None:
        """Send a packed message, with a descriptor of `file`, which stays open until the message is sent. `failed` is
        called with the reason where the system refuses this message."""
        if self._connection.fileno() < 0:
            return
        self._waiting.append(_Packet(data, file, failed))
        if len(self._waiting) == 1:
            self._send_waiting()

    def close(self) -> None:
        """Drop what waits, and disconnect: the worker ends then."""
        self._waiting.clear()
        if self._connection.fileno() >= 0:
            asyncio.get_running_loop().remove_writer(self._connection)
            self._connection.close()

    def _send_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            packet = self._waiting[0]
            try:
                packet.send(self._connection)
            except BlockingIOError:
                loop.add_writer(self._connection, self._send_waiting)
                return
            except ConnectionError:
                self.close()
                return
            except (
                OSError
            ) as error:  # no descriptor is left, or too many of this user's are under way (ETOOMANYREFS)
                self._waiting.popleft()
                packet.failed(error)
            else:
                self._waiting.popleft()
        loop.remove_writer(self._connection)
