"""The newest state as bytes, for any number of readers who each want every change and never a backlog."""

import asyncio


class Feed:
    """Written by one owner, read by all. A reader that is slow skips what is in between."""

    def __init__(self) -> None:
        self._data = b""
        self._version = 0
        self._closed = False
        self._changed = asyncio.Event()
        self.watchers = 0
        """Readers at the moment; counted by those who serve them."""

    @property
    def closed(self) -> bool:
        return self._closed

    def publish(self, data: bytes) -> None:
        """Make `data` the newest state; the same again wakes nobody."""
        if data != self._data:
            self._data = data
            self._version += 1
            self._wake()

    def close(self) -> None:
        """No change will follow: readers are woken and see `closed`."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def after(self, version: int) -> tuple[int, bytes]:
        """The newest (version, data) once it is newer than `version`, at once if it is already or if closed."""
        while self._version <= version and not self._closed:
            await self._changed.wait()
        return self._version, self._data
