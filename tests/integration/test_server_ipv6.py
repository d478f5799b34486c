"""The server at addresses of IPv6, and at all that there are."""

import logging
import socket

import aiohttp
import pytest
from yarl import URL

from tests.support import inference, pages

pytestmark = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


async def test_a_page_is_read_at_an_address_of_ipv6() -> None:
    async with inference.server(host="::1") as server:
        assert URL(server.running.url).host == "::1"
        status, body = await server.read(pages.blank(), headers={"Origin": server.running.url})
        assert status == 200, body


async def test_without_a_host_clients_of_both_kinds_are_answered_and_logged_as_they_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with inference.server(host="") as server, aiohttp.ClientSession() as http:
        port = URL(server.running.url).port
        for host in ("127.0.0.1", "[::1]"):
            async with http.get(f"http://{host}:{port}/health") as response:
                assert response.status == 200
    assert "remote=127.0.0.1 " in caplog.text
    assert "remote=::1 " in caplog.text
    assert "::ffff:" not in caplog.text
