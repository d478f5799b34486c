"""The command by which Docker asks whether the server serves."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ocr_inference import healthcheck


@contextmanager
def answering(**statuses: int) -> Iterator[dict[str, str]]:
    """The environment of a server that answers its probes so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses[self.path[1:]])
            self.end_headers()
            self.wfile.write(f"{self.path} words\n".encode())

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield {"PORT": str(server.server_port), "OCR_HOST": "0.0.0.0"}
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("statuses", "says"),
    [
        ({"livez": 200, "readyz": 200}, None),
        ({"livez": 503, "readyz": 200}, "/livez: 503 /livez words"),
        ({"livez": 200, "readyz": 503}, "/readyz: 503 /readyz words"),
    ],
)
def test_healthy_is_alive_and_ready(statuses: dict[str, int], says: str | None) -> None:
    with answering(**statuses) as environ:
        found = healthcheck.problem(environ)
    assert found is None if says is None else (found or "").endswith(says)


@pytest.mark.parametrize("port", ["1", "no number"])
def test_where_nothing_answers_the_address_is_named(port: str) -> None:
    assert (healthcheck.problem({"PORT": port}) or "").startswith(f"http://127.0.0.1:{port}/livez: ")
