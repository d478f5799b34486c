"""A client session in whose exchanges something happens that is in no family of errors of its library."""

from collections.abc import Generator
from typing import Any, Never


class Unforeseen(Exception):
    """An error such as aiohttp's for a line that is too long: no ClientError, no OSError and no ValueError."""


class OddSession:
    """Stands in for an `aiohttp.ClientSession`; counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def get(self, url: str, **_: Any) -> "_Request":
        self.asked += 1
        return _Request(url)

    put = post = get


class _Request:
    """Fails whether it is awaited or entered."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __await__(self) -> Generator[Any, None, Never]:
        raise Unforeseen(self._url)
        yield

    async def __aenter__(self) -> Never:
        raise Unforeseen(self._url)

    async def __aexit__(self, *_: object) -> None: ...
