"""Secrets that arrive as files: API keys and the admin token, read again when the file changes.

A configured file that is missing, unreadable or empty allows no token.
"""

import asyncio
import hashlib
import hmac
import logging
from pathlib import Path

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 16
CHECK_SECONDS = 1.0
"""Most age of the copy in memory: a rotation takes effect within this time."""


class TokenFile:
    """File with one token a line; `#` begins a comment. Read off the loop; compared in constant time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digests: tuple[bytes, ...] = ()
        self._stamp: tuple[int, int, int] | None = None
        self._checked = float("-inf")

    async def allows(self, token: str) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._checked >= CHECK_SECONDS:
            self._checked = now
            await asyncio.to_thread(self._refresh)
        digest = _digest(token)
        # Every token is compared, so that the time doesn't depend on which one is near.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp == self._stamp:
                return
            with self._path.open("rb") as file:
                text = file.read(MAX_BYTES).decode()
        except (OSError, UnicodeDecodeError) as error:
            log.error("tokens unreadable: all are refused path=%s error=%s", self._path, error)  # noqa: TRY400
            self._digests, self._stamp = (), None
            return
        lines = (line.strip() for line in text.splitlines())
        self._digests = tuple(_digest(line) for line in lines if line and not line.startswith("#"))
        self._stamp = stamp
        if not self._digests:
            log.error("no tokens in the file: all are refused path=%s", self._path)


def _digest(token: str) -> bytes:
    """Hash a token to a fixed length, which `compare_digest` needs to be constant in time."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
