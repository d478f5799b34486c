"""Secrets that arrive as files: API keys and the admin token. A rotation takes effect with the next request.

A configured file that is missing, unreadable, too large or empty allows no token, and is logged at the start.
"""

import asyncio
import codecs
import hashlib
import hmac
import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ocr_wire import tokens

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 16
_REFUSING = "its calls are refused with 503 until the file has a token"


class NoTokens(Exception):
    """File without a token that could be right; says why."""


@dataclass(frozen=True)
class _Found:
    """Content of a file: hashes of its tokens, and what is wrong with it, if anything is."""

    digests: tuple[bytes, ...] = ()
    fault: str = ""


class TokenFile:
    """File with one token a line; `#` begins a comment. Compared in constant time.

    Only hashes are kept, so nothing here can give a token away.

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
        if not found.digests:
            raise NoTokens(found.fault)
        digest = _digest(token)
        # Every token is compared, so that the time doesn't depend on which one is near.
        return sum(hmac.compare_digest(digest, known) for known in found.digests) > 0

    def _note(self, found: _Found) -> None:
        """Log a change: a fault would otherwise fill the log, a line for each request."""
        if found.fault and found.fault != self._logged:
            so = "the other tokens count" if found.digests else _REFUSING
            log.error("%s: %s variable=%s path=%s", found.fault, so, self._variable, shown(self._path))
        elif self._logged and not found.fault:
            log.info("tokens can be read again variable=%s path=%s", self._variable, shown(self._path))
        self._logged = found.fault


def examine(path: Path) -> tuple[str, bool]:
    """Return what is wrong with a file of tokens, empty if nothing is, and whether it has a token that counts."""
    found = _read(path)
    return found.fault, bool(found.digests)


def shown(path: Path) -> str:
    """Return the path for people; not one that may be the token itself, put into the wrong variable."""
    return str(path) if path.is_absolute() else "not_absolute"


def _read(path: Path) -> _Found:
    try:
        # A pipe without a writer would hold up the opening, and with one the read, for ever.
        with open(path, "rb", opener=_opened_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return _Found(
                    fault="the file of tokens is no regular file, such as a pipe: it is read for each request"
                )
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        return _Found(fault=f"the file of tokens can't be read ({error.strerror or type(error).__name__})")
    if len(data) > MAX_BYTES:
        # Cut, its last token would be a part of one.
        return _Found(fault=f"the file of tokens has more than {MAX_BYTES} bytes")
    found, fault = [], ""
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).splitlines(), 1):
        try:
            token = "" if line.lstrip().startswith(b"#") else tokens.parse(line)
        except tokens.Unusable as error:
            fault = fault or f"line {number} of the file of tokens {error}"
        else:
            found += [_digest(token)] if token else []
    return _Found(tuple(found), fault or ("" if found else "the file of tokens has none"))


def _opened_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _digest(token: str) -> bytes:
    """Hash a token to a fixed length, which `compare_digest` needs to be constant in time."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
