"""A TCP gate between a client and a server, which a test shuts: connections break, and new ones are refused."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import yaml


class Gate:
    """Passes bytes on, each connection by two threads; `shut` and `reopen` are called by the test."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server((target[0], 0))
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._connections: list[socket.socket] = []
        self._shut = threading.Event()
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    def shut(self) -> None:
        self._shut.set()
        for each in self._connections:
            _end(each)
        self._connections.clear()

    def reopen(self) -> None:
        self._shut.clear()

    def close(self) -> None:
        self.shut()
        _end(self._listener)
        for each in self._threads:
            each.join()
        self._listener.close()

    def _run(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._shut.is_set():
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._connections += [client, server]
            self._run(_pass_on, client, server)
            self._run(_pass_on, server, client)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Pass on until one of the two ends, then end both; each socket is closed by the thread that reads from it."""
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    _end(sink)
    _end(source)
    source.close()


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def gated(kubeconfig: Path, folder: Path) -> Iterator[tuple[Gate, Path]]:
    """A gate in front of the API server, and a kubeconfig that leads through it."""
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    [cluster] = config["clusters"]
    server = urlsplit(cluster["cluster"]["server"])
    assert server.hostname is not None
    gate = Gate((server.hostname, server.port or 443))
    cluster["cluster"]["server"] = f"https://{gate.address[0]}:{gate.address[1]}"
    path = folder / "gated-kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    try:
        yield gate, path
    finally:
        gate.close()
