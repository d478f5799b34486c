"""Holder of the latest value that one owner publishes: any number of readers follow its changes, without a backlog."""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Latest value, written by one owner, read by all. A slow reader skips values in between."""

    def __init__(self, value: T) -> None:
        """Begin with `value` as version 0."""
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
        """Replace the value; an equal one changes nothing and wakes no reader."""
        if value != self._value:
            self._value = value
            self._version += 1
            self._wake()

    def close(self) -> None:
        """End it: readers are woken and see `closed`."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def after(self, version: int) -> tuple[int, T]:
        """Wait for a version newer than `version`; returns at once if there is one already or if closed."""
        while self._version <= version and not self._closed:
            await self._changed.wait()
        return self._version, self._value

    async def follow(self) -> AsyncIterator[T]:
        """Yield the value now, and the latest after each change; ends when it is closed."""
        seen = -1
        while True:
            version, value = await self.after(seen)
            if version == seen:
                return
            seen = version
            yield value
