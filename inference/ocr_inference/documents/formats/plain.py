"""Plain text of pages: what a person would type, without marks of Markdown. Pages are apart by a form feed."""

from collections.abc import Iterable, Iterator
from typing import Final

from ocr_inference.documents.formats import parsing
from ocr_inference.documents.formats.blocks import Block, Code, Heading, Paragraph, Rule, Table, words
from ocr_inference.documents.formats.page import ReadPage

BETWEEN: Final = "\n\f"
"""What stands between pages, as programs that read text of PDFs have it."""


def pieces(pages: Iterable[ReadPage]) -> Iterator[str]:
    """Yield a file of plain text, page by page; a page that couldn't be read says so in brackets."""
    begun = False
    for page in pages:
        text = f"[{page.fault}]" if page.fault is not None else written(parsing.blocks(page))
        yield f"{BETWEEN if begun else ''}{text}"
        begun = True
    if begun:
        yield "\n"


def written(blocks: Iterable[Block]) -> str:
    """Return blocks as plain text; items of a list follow each other, all else is apart by an empty line."""
    text, before = "", False
    for block in blocks:
        one = _block(block)
        if not one:
            continue
        item = isinstance(block, Paragraph) and bool(block.mark)
        text += f"{'' if not text else chr(10) if item and before else chr(10) * 2}{one}"
        before = item
    return text


def _block(block: Block) -> str:
    match block:
        case Heading(runs=runs):
            return words(runs)
        case Paragraph(runs, mark, depth):
            return f"{'  ' * depth}{f'{mark} ' if mark else ''}{words(runs)}".rstrip()
        case Code(text):
            return text
        case Rule():
            return ""
        case Table(rows):
            return "\n".join("\t".join(words(cell.runs).replace("\n", " ") for cell in row) for row in rows)
