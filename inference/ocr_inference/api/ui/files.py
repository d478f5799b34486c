"""Files of the web page, read once: what isn't in this table can't be asked for, whatever a path says."""

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

INDEX: Final = "index.html"
TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".woff2": "font/woff2",
}
"""By the ends of names; files of other kinds aren't served."""
BINARY: Final = frozenset({"font/woff2"})
"""Types without a charset, which are compressed already."""


@dataclass(frozen=True)
class StaticFile:
    """File as it is sent."""

    type: str
    content: bytes
    compressed: bytes | None
    """By gzip; None where that saves nothing."""
    etag: str
    """Without quotes."""


Table = Mapping[str, StaticFile]
"""Files by their paths in the folder, such as `css/base.css`."""


def load() -> Table:
    """Read the table from the installed package."""
    found = sorted(_walk(files("ocr_inference.api.ui").joinpath("static"), ""), key=lambda each: each[0])
    return {path: of(path, content) for path, content in found}


def of(path: str, content: bytes) -> StaticFile:
    """Return the file as it is sent; raises `KeyError` for a type that isn't served."""
    media = TYPES[_suffix(path)]
    # The same bytes every time, so that replicas agree about them.
    compressed = None if media in BINARY else gzip.compress(content, mtime=0)
    saves = compressed is not None and len(compressed) < len(content)
    etag = hashlib.sha256(content).hexdigest()[:32]
    return StaticFile(media, content, compressed if saves else None, etag)


def _walk(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for each in folder.iterdir():
        name = f"{path}{each.name}"
        if each.is_dir():
            yield from _walk(each, f"{name}/")
        elif _suffix(name) in TYPES:
            yield name, each.read_bytes()


def _suffix(path: str) -> str:
    return "." + path.rpartition(".")[2]
