"""Secrets that arrive as files: API keys and the admin token. A rotation takes effect with the next request.

A configured file that is missing, unreadable, too large or empty allows no token, and is logged at the start.
"""

import asyncio
import hashlib
import hmac
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 16


class NoTokens(Exception):
    """File without a token that could be right; says why."""


class TokenFile:
    """File with one token a line; `#` begins a comment. Compared in constant time.

    The file is read for each request: what a request is checked against was read after it arrived, so there is no copy
    that could be empty or old. A few bytes of memory-backed storage cost less than the hop to the thread that reads
    them; the thread is the file's own, so that a file system that hangs holds up nothing else.
    """

    def __init__(self, path: Path, variable: str) -> None:
        """Read the file once, so that a fault is logged at the start; `variable` is the setting that names it."""
        self._path = path
        self._variable = variable
        self._logged = ""
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokens")
        self._note(_read(path))

    async def allows(self, token: str) -> bool:
        """Return whether the token is in the file; raises `NoTokens` where the file has none."""
        found = await asyncio.get_running_loop().run_in_executor(self._reader, _read, self._path)
        self._note(found)
        if isinstance(found, NoTokens):
            raise found
        digest = _digest(token)
        # Every token is compared, so that the time doesn't depend on which one is near.
        return sum(hmac.compare_digest(digest, known) for known in found) > 0

    def _note(self, found: tuple[bytes, ...] | NoTokens) -> None:
        """Log a change: a fault would otherwise fill the log, a line for each request."""
        fault = str(found) if isinstance(found, NoTokens) else ""
        if fault and fault != self._logged:
            log.error(
                "%s: its calls are refused with 503 until the file has a token variable=%s path=%s",
                *(fault, self._variable, self._path),
            )
        elif self._logged and not fault:
            log.info("tokens can be read again variable=%s path=%s", self._variable, self._path)
        self._logged = fault


def _read(path: Path) -> tuple[bytes, ...] | NoTokens:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            # Cut, its last token would be a part of one.
            return NoTokens(f"the file of tokens has more than {MAX_BYTES} bytes")
        lines = [line.strip() for line in data.decode().splitlines()]
    except OSError as error:
        return NoTokens(f"the file of tokens can't be read ({error.strerror or type(error).__name__})")
    except UnicodeDecodeError:
        return NoTokens("the file of tokens is not UTF-8 text")
    found = tuple(_digest(line) for line in lines if line and not line.startswith("#"))
    return found or NoTokens("the file of tokens has none")


def _digest(token: str) -> bytes:
    """Hash a token to a fixed length, which `compare_digest` needs to be constant in time."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
