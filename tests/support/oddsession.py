"""A client session in whose exchanges something happens that is in no family of errors of its library."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class Unforeseen(Exception):
    """An error such as aiohttp's for a line that is too long: no ClientError, no OSError and no ValueError."""


class OddSession:
    """Stands in for an `aiohttp.ClientSession`; counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    @asynccontextmanager
    async def get(self, url: str, **_: Any) -> AsyncIterator[Any]:
        self.asked += 1
        raise Unforeseen(url)
        yield

    put = post = get
