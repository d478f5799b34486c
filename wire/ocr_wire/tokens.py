"""Tokens as people and tools leave them in files and variables: with a last newline, a byte order mark, blanks."""

import re
from typing import Final

FAULT: Final = "has a character that can't be in a header: printable ASCII is allowed"
"""What is wrong with a token that `parse` refuses; it is named by where it came from, and never quoted."""

_BYTE_ORDER_MARK: Final = "\ufeff"
_SENDABLE: Final = re.compile(r"[\x20-\x7e]+")


class Unusable(ValueError):
    """Token that can't be sent in a header. The message doesn't quote it."""


def parse(raw: str | bytes) -> str:
    """Return the token without the white space around it; empty where there is none. Raises `Unusable`.

    What is left stands in a header as it is: HTTP allows printable ASCII there, and libraries raise errors that quote
    the whole header otherwise.
    """
    try:
        text = raw.decode() if isinstance(raw, bytes) else raw
    except UnicodeDecodeError:
        raise Unusable(FAULT) from None
    token = text.strip().removeprefix(_BYTE_ORDER_MARK).strip()
    if token and not _SENDABLE.fullmatch(token):
        raise Unusable(FAULT)
    return token
