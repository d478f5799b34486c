"""A real forward proxy on loopback: HTTP with CONNECT, and SOCKS5. It notes where it was asked to go."""

import base64
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Final
from urllib.parse import urlsplit

_PIECE: Final = 1 << 16


class Proxy:
    """What was asked of it."""

    def __init__(self, port: int, password: str | None) -> None:
        self.password = password
        """Of user `user`; None: everybody may use it."""
        self.address = f"127.0.0.1:{port}"
        self.targets: list[str] = []
        """`host:port` of each connection."""


@contextmanager
def serving(password: str | None = None) -> Iterator[Proxy]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.proxy = Proxy(server.server_address[1], password)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.proxy
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    proxy: Proxy


class _Handler(BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        with suppress(OSError):
            if self.request.recv(1, socket.MSG_PEEK) == b"\x05":
                self._socks()
            else:
                self._http()

    def _http(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = self.request.recv(1)
            if not piece:
                return
            head += piece
        line, *headers = head.decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        if not self._may(headers):
            self.request.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        if method == "CONNECT":
            self._join(target, b"HTTP/1.1 200 Connection established\r\n\r\n", b"")
            return
        url = urlsplit(target)
        path = target.partition(url.netloc)[2] or "/"
        kept = [each for each in headers if not each.lower().startswith(("connection:", "proxy-"))]
        self._join(
            url.netloc, b"", "\r\n".join([f"{method} {path} HTTP/1.1", "Connection: close", *kept]).encode()
        )

    def _may(self, headers: list[str]) -> bool:
        if self.server.proxy.password is None:
            return True
        wanted = base64.b64encode(f"user:{self.server.proxy.password}".encode()).decode()
        return f"proxy-authorization: basic {wanted}".lower() in [each.lower() for each in headers]

    def _socks(self) -> None:
        _, count = struct.unpack("BB", self.request.recv(2))
        self.request.recv(count)
        self.request.sendall(b"\x05\x00")
        _, _, _, kind = struct.unpack("BBBB", self.request.recv(4))
        if kind == 1:
            host = socket.inet_ntoa(self.request.recv(4))
        else:
            host = self.request.recv(self.request.recv(1)[0]).decode()
        (port,) = struct.unpack(">H", self.request.recv(2))
        self._join(f"{host}:{port}", b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00", b"")

    def _join(self, target: str, answer: bytes, first: bytes) -> None:
        """Connect to the target and pass bytes both ways until one side ends."""
        self.server.proxy.targets.append(target)
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as other:
            self.request.sendall(answer)
            other.sendall(first)
            ends = {self.request: other, other: self.request}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    piece = end.recv(_PIECE)
                    if not piece:
                        return
                    ends[end].sendall(piece)
