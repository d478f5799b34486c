"""Values of options, read strictly."""

import argparse
import re
from typing import Final

from yarl import URL

from ocr_wire.settings import MAX_SECONDS, NEVER

MOST_AT_A_TIME: Final = 64


def word(word: str) -> str:
    """Read a name or a term. An empty one is what a script has of a variable that isn't set: it is never meant."""
    if not word:
        raise argparse.ArgumentTypeError("it is empty")
    return word


def idle_time(word: str) -> float:
    """Read an idle time: `300`, `5m`, `1h`, `0` (at once), `never`; returns seconds, -1 for never."""
    if word in ("never", f"{NEVER:g}"):
        return NEVER
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smh]?)", word, re.ASCII)
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else -1.0
    if not 0 <= seconds <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(
            f"expected seconds up to {MAX_SECONDS:g}, or such as 5m, 1h, 0, never; got {word[:40]!r}"
        )
    return seconds


def server(word: str) -> URL:
    """Read the URL of a server, perhaps below a path. One with a password is refused: it would stand in the history
    of the shell and in the list of processes."""
    try:
        url = URL(word)
        usable = url.scheme in ("http", "https") and bool(url.host) and url.port is not None
    except ValueError:
        raise argparse.ArgumentTypeError("expected http://HOST:PORT or https://HOST") from None
    if not usable:
        raise argparse.ArgumentTypeError("expected http://HOST:PORT or https://HOST")
    if url.user is not None or url.password is not None:
        raise argparse.ArgumentTypeError(
            "leave out user and password; an API key goes into OCR_API_KEY or a file"
        )
    if url.query_string or url.fragment:
        raise argparse.ArgumentTypeError(
            "leave out what follows ? or #; expected such as https://ocr.example.com"
        )
    return url.with_path(url.path.rstrip("/") or "/")
