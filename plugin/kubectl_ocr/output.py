"""Standard output: as a table, JSON or YAML, in colour where people look."""

import os
import sys
from typing import Any

import msgspec

from kubectl_ocr import text


def paint() -> text.Paint:
    """Return colours for a terminal, and none where NO_COLOR (https://no-color.org) or TERM=dumb says otherwise."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return text.coloured if wanted else text.plain


def emit(value: Any, output: str, rendered: str) -> None:
    """Print `rendered` for people, or `value` for programs."""
    match output:
        case "json":
            print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
        case "yaml":
            print(msgspec.yaml.encode(value).decode(), end="")
        case _:
            print(rendered)
