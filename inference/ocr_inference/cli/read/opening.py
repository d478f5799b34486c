"""Opens documents: files as they are, what comes from a pipe in memory."""

import asyncio
import hashlib
import os
import stat
import sys
import threading
from contextlib import suppress
from typing import Final

from ocr_inference.cli.read.planning import STDIN
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile

MAX_PIPED_BYTES: Final = 1 << 30


def opened(path: str) -> PageFile:
    """Open a document; what comes from a pipe is put into memory. Raises `ApiError`."""
    try:
        if path == STDIN:
            return _piped(sys.stdin.fileno())
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        kind = os.fstat(file).st_mode
        if stat.S_ISREG(kind):
            return PageFile(file)
        try:
            if stat.S_ISDIR(kind):
                raise ApiError(422, "is_folder", "it is a folder")
            return _piped(file)
        finally:
            os.close(file)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ApiError(404, "file_not_found", f"can't read it: {why}") from error


async def in_thread(path: str) -> PageFile:
    """Open it in a thread that ends with the process: one that waits for a pipe can't be ended otherwise."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[PageFile] = loop.create_future()

    def settle(file: PageFile | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        elif file is not None:
            future.set_result(file)

    def call() -> None:
        file, failed = None, None
        try:
            file = opened(path)
        except Exception as error:  # noqa: BLE001 - raised where it is awaited
            failed = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, file, failed)

    threading.Thread(target=call, daemon=True, name="open").start()
    return await future


def _piped(file: int) -> PageFile:
    page, left = PageFile.create(), MAX_PIPED_BYTES
    while piece := os.read(file, min(left + 1, 1 << 20)):
        if len(piece) > left:
            page.close()
            raise ApiError(
                413, "too_large", f"more than {MAX_PIPED_BYTES >> 30} GiB in a pipe: save it as a file"
            )
        page.write(piece)
        left -= len(piece)
    return page


def digest(file: PageFile) -> str:
    """Return the SHA-256 of a document."""
    found = hashlib.sha256()
    for piece in file.pieces():
        found.update(piece)
    return found.hexdigest()
