"""Keys and tokens of a server: from a file or a variable, never from the command line, which others see."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ocr_inference.config.settings import InvalidSettings
from ocr_wire import tokens

MAX_BYTES: Final = 1 << 16


def read(environ: Mapping[str, str], variable: str, file: str | None, option: str) -> str:
    """Return the secret, empty where there is none; raises `InvalidSettings`, which doesn't repeat it."""
    try:
        if file is None:
            return tokens.parse(environ.get(variable, ""))
        with Path(file).open("rb") as opened:
            raw = opened.read(MAX_BYTES + 1)
    except tokens.Unusable as error:
        raise InvalidSettings(str(error), variable) from None
    except OSError as error:
        raise InvalidSettings(f"can't read it: {error.strerror}", option) from error
    try:
        token = tokens.parse(raw) if len(raw) <= MAX_BYTES else ""
    except tokens.Unusable as error:
        raise InvalidSettings(str(error), option) from None
    if not token:
        raise InvalidSettings("there is no key in that file", option)
    if "\n" in token or "\r" in token:
        raise InvalidSettings("there are several lines in that file; a key is one", option)
    return token
