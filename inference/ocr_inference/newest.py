"""The newest of a value that one owner replaces and any number of others follow."""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """Written by one owner. A follower that is slow skips what is in between."""

    def __init__(self, value: T) -> None:
        self.value = value
        self._closed = False
        self._changed = asyncio.Event()

    def put(self, value: T) -> None:
        """An equal value changes nothing and wakes nobody."""
        if value != self.value:
            self.value = value
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    def close(self) -> None:
        """No change will follow."""
        self._closed = True
        self._changed.set()

    async def follow(self) -> AsyncIterator[T]:
        """The value now, and the newest after each change; ends when it is closed."""
        seen: T | None = None
        while True:
            changed, value = self._changed, self.value
            if value is not seen:
                seen = value
                yield value
            elif self._closed:
                return
            else:
                await changed.wait()
