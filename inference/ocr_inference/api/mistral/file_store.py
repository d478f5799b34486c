"""Documents that were uploaded to be read by their id, in memory, for a while."""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile

MAX_FILES: Final = 256


@dataclass(frozen=True)
class Stored:
    """Document that is kept. Times are seconds of a monotonic clock."""

    id: str
    name: str
    size: int
    created: float
    purpose: str = "ocr"


def dropped(
    stored: Mapping[str, Stored], coming: int, now: float, *, keep_seconds: float, most_bytes: int
) -> list[str] | None:
    """Return which files go, oldest first, before one of `coming` bytes is stored: those that are too old, and those
    without which it fits, by number and by size. None where it doesn't fit at all."""
    if coming > most_bytes:
        return None
    by_age = sorted(stored.values(), key=lambda each: each.created)
    number, size = len(by_age), sum(each.size for each in by_age)
    going = []
    for each in by_age:
        fits = number < MAX_FILES and size + coming <= most_bytes
        if each.created + keep_seconds > now and fits:
            break
        going.append(each.id)
        number, size = number - 1, size - each.size
    return going


class FileStore:
    """Owner of the files."""

    def __init__(self, most_bytes: int, keep_seconds: float, now: Callable[[], float]) -> None:
        self.instance = secrets.token_hex(4)
        """In each id, so that an id of another process is known as such."""
        self.keep_seconds = keep_seconds
        self.now = now
        self._most_bytes = most_bytes
        self._stored: dict[str, Stored] = {}
        self._files: dict[str, PageFile] = {}

    def store(self, file: PageFile, name: str) -> Stored:
        """Keep a document, by a handle of its own; older ones make way. Raises 413."""
        now, size = self.now(), file.size
        going = dropped(self._stored, size, now, keep_seconds=self.keep_seconds, most_bytes=self._most_bytes)
        if going is None:
            message = f"files may have {self._most_bytes} bytes"
            raise ApiError(413, "upload_too_large", message, param="file")
        for id_ in going:
            self._drop(id_)
        stored = Stored(f"file-{self.instance}-{secrets.token_hex(12)}", name, size, now)
        self._stored[stored.id], self._files[stored.id] = stored, file.duplicate()
        asyncio.get_running_loop().call_later(self.keep_seconds, self._expire)
        return stored

    def find(self, id_: str, param: str = "file_id") -> Stored:
        """Return the file; raises 404."""
        self._expire()
        if (stored := self._stored.get(id_)) is None:
            ours = id_.startswith(f"file-{self.instance}-")
            why = (
                f"files are kept for {self.keep_seconds:g} s, unless they are deleted or make way for newer ones"
                if ours
                else "it isn't of this process: files don't survive a restart, and another replica doesn't know them"
            )
            raise ApiError(404, "file_not_found", f"no file {id_[:64]!r} here: {why}", param=param)
        return stored

    def opened(self, id_: str, param: str) -> PageFile:
        """Return a handle on the file, which the caller closes; raises 404."""
        return self._files[self.find(id_, param).id].share()

    def delete(self, id_: str) -> Stored:
        """Drop the file; raises 404."""
        stored = self.find(id_)
        self._drop(id_)
        return stored

    def used_bytes(self) -> int:
        return sum(each.size for each in self._stored.values())

    def close(self) -> None:
        """Drop all files."""
        for id_ in tuple(self._stored):
            self._drop(id_)

    def _expire(self) -> None:
        for each in tuple(self._stored.values()):
            if each.created + self.keep_seconds <= self.now():
                self._drop(each.id)

    def _drop(self, id_: str) -> None:
        del self._stored[id_]
        self._files.pop(id_).close()
