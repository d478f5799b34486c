"""The newest of a value that one owner replaces: any number of readers want every change, and never a backlog."""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """Written by one owner, read by all. A reader that is slow skips what is in between."""

    def __init__(self, value: T) -> None:
        """Version 0 of it."""
        self._value = value
        self._version = 0
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def value(self) -> T:
        return self._value

    @property
    def closed(self) -> bool:
        return self._closed

    def publish(self, value: T) -> None:
        """An equal value changes nothing and wakes nobody."""
        if value != self._value:
            self._value = value
            self._version += 1
            self._wake()

    def close(self) -> None:
        """No change will follow: readers are woken and see `closed`."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def after(self, version: int) -> tuple[int, T]:
        """The newest (version, value) once it is newer than `version`, at once if it is already or if closed."""
        while self._version <= version and not self._closed:
            await self._changed.wait()
        return self._version, self._value

    async def follow(self) -> AsyncIterator[T]:
        """The value now, and the newest after each change; ends when it is closed."""
        seen = -1
        while True:
            version, value = await self.after(seen)
            if version == seen:
                return
            seen = version
            yield value
