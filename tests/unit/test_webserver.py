"""Servers that tests start in their own process end with them, and what is connected to them."""

import asyncio
import contextlib
import gc
import socket
import ssl
import warnings
from pathlib import Path

import pytest
from aiohttp import web

from tests.support import webserver
from tests.support.certificates import certify


class Failed(Exception):
    """A test has."""


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("turns", range(6))
def test_a_connection_that_is_accepted_in_the_last_turn_is_closed(turns: int, fails: bool) -> None:
    async def scenario() -> None:
        with socket.socket() as client, contextlib.suppress(Failed):
            async with webserver.serving(web.Application()) as url:
                port = int(url.rpartition(":")[2])
                client.connect(("127.0.0.1", port))
                for _ in range(turns):
                    await asyncio.sleep(0)
                if fails:
                    raise Failed

    with warnings.catch_warnings(record=True, action="always") as seen:
        asyncio.run(scenario())
        gc.collect()
    assert [str(each.message) for each in seen if each.category is ResourceWarning] == []


@pytest.mark.parametrize("shakes_hands", [False, True])
def test_a_server_in_a_thread_ends_with_its_tls_connections(shakes_hands: bool, tmp_path: Path) -> None:
    certificate = certify(tmp_path, "played", "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, f"{certificate}.key")
    trusting = ssl.create_default_context(cafile=certificate)

    with warnings.catch_warnings(record=True, action="always") as seen:
        with webserver.serving_beside(web.Application(), tls=context) as url:
            address = ("127.0.0.1", int(url.rpartition(":")[2]))
            client: socket.socket = socket.create_connection(address)
            if shakes_hands:
                client = trusting.wrap_socket(client, server_hostname="127.0.0.1")
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.recv(100)
        client.close()
        gc.collect()
    assert [str(each.message) for each in seen if each.category is ResourceWarning] == []
