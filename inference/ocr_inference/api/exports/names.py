"""Names of files that are downloaded: safe on every system, whatever the name that was sent."""

import re
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote

MOST: Final = 100
"""Characters, without the end."""
_UNSAFE: Final = re.compile(
    r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]'
)
_OTHER: Final = re.compile(r"[^\w. ()-]", re.ASCII)
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
DEFAULT: Final = "document"


def stem(name: str) -> str:
    """Return a name without folders, end, and what a system or a shell acts upon."""
    last = PurePosixPath(name.replace("\\", "/")).name
    base = last.rpartition(".")[0] or last
    cleaned = _UNSAFE.sub("_", base).strip(" ._")[:MOST].strip(" ._")
    return DEFAULT if not cleaned or _RESERVED.fullmatch(cleaned) else cleaned


def disposition(name: str, suffix: str) -> str:
    """Return the header that has a browser keep the file under a name (RFC 6266)."""
    full = f"{stem(name)}.{suffix}"
    plain = _OTHER.sub("_", full)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(full, safe='')}"
