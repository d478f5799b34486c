"""Servers that tests start in their own process end with them, and what is connected to them."""

import asyncio
import contextlib
import gc
import socket
import warnings

import pytest
from aiohttp import web

from tests.support import webserver


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
