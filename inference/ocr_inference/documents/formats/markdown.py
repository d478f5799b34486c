"""Markdown of pages as one file, as it was written."""

from collections.abc import Iterable, Iterator
from typing import Final

from ocr_inference.documents.formats.page import ReadPage

BETWEEN: Final = "\n\n---\n\n"
"""What stands between pages."""


def pieces(pages: Iterable[ReadPage]) -> Iterator[str]:
    """Yield a file of Markdown, page by page; a page that couldn't be read has a comment in its place."""
    begun = False
    for page in pages:
        yield f"{BETWEEN if begun else ''}{_written(page)}"
        begun = True
    if begun:
        yield "\n"


def _written(page: ReadPage) -> str:
    if page.fault is None:
        return page.text
    return f"<!-- {page.fault.replace('--', '- -')} -->"
