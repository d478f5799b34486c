"""Results as they are printed and written: what is before and after the files of `documents.formats`."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from ocr_inference.cli.read import progress
from ocr_inference.cli.read.reading import Reading
from ocr_inference.documents import exporting, kinds
from ocr_inference.documents.exporter import Order, Origin
from ocr_inference.documents.formats import markdown, page
from ocr_inference.documents.formats.kinds import MADE_APART, Format
from ocr_inference.protocol.page_file import PageFile

BINARY: Final = frozenset({Format.DOCX, Format.PDF})
"""Formats that aren't for terminals, and of which one can't follow the other."""
MAX_BYTES: Final = 1 << 31
"""Of a file that is made apart."""


async def render(
    format_: Format, shown: str, reading: Reading, file: PageFile, max_pixels: int, *, is_alone: bool
) -> bytes:
    """Return a document's result; raises `ApiError` where it can't be made. A page that couldn't be read has its error
    in its place; where none could, it is empty, but for JSON. Beside others it is under its name, or a line of JSON."""
    if format_ is Format.JSON:
        return _json(_document(shown, reading), indent=2 if is_alone else None)
    if not reading.pages:
        return b""
    content = await _made(format_, shown, reading, file, max_pixels)
    return content if is_alone or format_ in BINARY else _head(format_, shown) + content + b"\n"


async def _made(format_: Format, shown: str, reading: Reading, file: PageFile, max_pixels: int) -> bytes:
    if format_ not in MADE_APART:
        return "".join(markdown.pieces(page.decode(each) for each in _results(reading))).encode(
            errors="replace"
        )
    is_pdf = kinds.of_head(os.pread(file.fileno(), kinds.HEAD_BYTES, 0)) == kinds.PDF
    order = Order(
        format=format_,
        title=progress.safe(os.path.splitext(os.path.basename(shown))[0]),
        max_pixels=max_pixels,
        max_bytes=MAX_BYTES,
        origins=(Origin(is_pdf),),
        places=tuple((0, each.index) for each in reading.found),
    )
    with await exporting.made(order, _results(reading), [file]) as made:
        return b"".join(made.pieces())


def _head(format_: Format, shown: str) -> bytes:
    """Return what stands before a document's result among others."""
    name = progress.safe(shown)
    head = f"==> {name} <==\n" if format_ is Format.TEXT else f"<!-- {name.replace('--', '- -')} -->\n\n"
    return head.encode()


def printable(content: bytes) -> bytes:
    """Return text without what would control a terminal: what is on a page, or in a file's name, is untrusted."""
    shown = content.decode(errors="replace")
    return "".join(
        char if char.isprintable() or char in "\n\t" else "" if char == "\f" else "?" for char in shown
    ).encode()


def _results(reading: Reading) -> Iterator[bytes]:
    yield from (msgspec.json.encode(each) for each in reading.found)


def _document(shown: str, reading: Reading) -> Mapping[str, Any]:
    return {
        "document": shown,
        "pages": msgspec.to_builtins(reading.pages),
        "errors": msgspec.to_builtins(reading.errors),
    }


def _json(document: Mapping[str, Any], indent: int | None = None) -> bytes:
    written = json.dumps(document, ensure_ascii=False, indent=indent)
    return (written + "\n").encode(errors="backslashreplace")
