"""Marked secrets, and the search for them in everything that comes out of a program."""

import base64
import binascii
import re
import secrets
from collections.abc import Iterator
from urllib.parse import unquote

PART = 10
"""Characters of a secret that are a leak; less may be chance."""


def mark() -> str:
    """Return a secret of which no part is in any text by chance."""
    return secrets.token_hex(16)


def leaks(said: str | bytes, *marks: str) -> list[str]:
    """Return marks of which a part is in the text: plain, percent-encoded, or in Base64 of any alignment."""
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    readings = [text, unquote(text), *_decoded(text)]
    return [each for each in marks if any(part in reading for part in _parts(each) for reading in readings)]


def _parts(secret: str) -> Iterator[str]:
    for begin in range(max(1, len(secret) - PART + 1)):
        yield secret[begin : begin + PART]


def _decoded(text: str) -> Iterator[str]:
    for run in re.findall(r"[A-Za-z0-9+/_-]{12,}", text):
        plain = run.replace("-", "+").replace("_", "/")
        for offset in range(4):
            piece = plain[offset:]
            try:
                yield base64.b64decode(piece[: len(piece) // 4 * 4]).decode("latin-1")
            except binascii.Error:
                continue
