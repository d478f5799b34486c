"""Word documents (docx): headings, paragraphs, lists, tables, formulas as text; each page begins on a new one.

python-docx makes the package and its styles. Its own way to add a paragraph looks for the end of the document each
time, so elements are put there directly.
"""

import io
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import accumulate
from typing import BinaryIO, Final

import docx
from docx.document import Document
from docx.oxml.ns import qn
from docx.oxml.parser import OxmlElement
from docx.oxml.xmlchemy import BaseOxmlElement
from docx.shared import Inches
from docx.text.paragraph import Paragraph as DocxParagraph
from docx.text.run import Run as DocxRun

from ocr_inference.documents.formats import cells, characters, parsing
from ocr_inference.documents.formats.blocks import (
    Block,
    Code,
    Heading,
    Paragraph,
    Rule,
    Run,
    Runs,
    Table,
    words,
)
from ocr_inference.documents.formats.page import ReadPage

MAX_TITLE: Final = 200
_FORMULA_FONT, _CODE_FONT = "Cambria Math", "Courier New"
LEAST_FULL: Final = 15.0
"""Length of a line, in heights of its letters, from which it may be full: about 30 letters."""
_FULL: Final = 0.8
"""Part of the longest line of its paragraph that a full line has at least."""
_NOTHING: Final = "\x01"
_INDENT: Final = 0.25
"""Inches of each level of a list."""
_WRITTEN: Final = datetime(1980, 1, 1, tzinfo=UTC)
"""Date of everything in the file, which is the least that its container can say."""


def write(pages: Iterable[ReadPage], out: BinaryIO, title: str = "") -> None:
    """Write pages as a Word document."""
    document = docx.Document()
    properties = document.core_properties
    properties.title, properties.author = characters.safe(title)[:MAX_TITLE], ""
    properties.comments, properties.created = "", _WRITTEN.replace(tzinfo=None)
    end = document.element.body[-1]  # the section's properties
    begun = False
    for page in pages:
        blocks = parsing.blocks(page) or [Paragraph(())]
        if begun and not isinstance(blocks[0], Heading | Paragraph):
            blocks.insert(0, Paragraph(()))
        for number, block in enumerate(blocks):
            for element in _elements(document, block):
                if begun and number == 0:
                    DocxParagraph(element, document._body).paragraph_format.page_break_before = True
                end.addprevious(element)
        begun = True
    written = io.BytesIO()
    document.save(written)
    _packed(written, out)


def _packed(written: BinaryIO, out: BinaryIO) -> None:
    """Write the package without the time at which it is written."""
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in source.namelist():
            entry = zipfile.ZipInfo(name, _WRITTEN.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, source.read(name))


def _elements(document: Document, block: Block) -> list[BaseOxmlElement]:
    match block:
        case Heading(level, content):
            return [_paragraph(document, content, f"Heading {level}")]
        case Paragraph(content, mark, depth):
            return [_listed(document, flowing(content), mark, depth)]
        case Code(text):
            return [_paragraph(document, (Run(text, code=True),))]
        case Rule():
            return [_ruled(document)]
        case Table():
            # Tables that follow each other would become one.
            return [
                cells.table(block, lambda content: _paragraph(document, content)),
                _paragraph(document, ()),
            ]


def flowing(content: Runs) -> Runs:
    """Return a paragraph whose full lines run on, so that Word breaks them anew. A line that ends early stays one, as
    in an address; so does each line of code and of formulas."""
    if any(run.formula or run.code for run in content):
        return content
    text = words(content)
    lines = text.split("\n")
    lengths = [characters.advance(line) for line in lines]
    full = max(LEAST_FULL, _FULL * max(lengths))
    flowed = lines[0]
    for line, length, following in zip(lines, lengths, lines[1:], strict=False):
        wide = all(characters.is_wide(each or " ") for each in (line[-1:], following[:1]))
        # One character for each, so that runs stay where they are.
        flowed += ("\n" if length < full else _NOTHING if wide else " ") + following
    ends = list(accumulate(len(run.text) for run in content))
    parts = (flowed[end - len(run.text) : end] for run, end in zip(content, ends, strict=True))
    return tuple(
        replace(run, text=part.replace(_NOTHING, "")) for run, part in zip(content, parts, strict=True)
    )


def _paragraph(document: Document, content: Runs, style: str | None = None) -> BaseOxmlElement:
    element = OxmlElement("w:p")
    paragraph = DocxParagraph(element, document._body)
    if style is not None:
        paragraph.style = style
    left = characters.runs_left(words(content))
    if left:
        element.get_or_add_pPr().append(OxmlElement("w:bidi"))
    for each in content:
        _add_run(paragraph, each, left=left)
    return element


def _listed(document: Document, content: Runs, mark: str, depth: int) -> BaseOxmlElement:
    """Return a paragraph that stands in lists, with its mark as it was written: Word would count anew."""
    element = _paragraph(document, (Run(f"{mark}\t"), *content) if mark else content)
    if mark or depth:
        shape = DocxParagraph(element, document._body).paragraph_format
        shape.left_indent = Inches(_INDENT * (depth + bool(mark)))
        shape.first_line_indent = Inches(-_INDENT if mark else 0)
        shape.space_after = 0
    return element


def _ruled(document: Document) -> BaseOxmlElement:
    element = _paragraph(document, ())
    borders, bottom = OxmlElement("w:pBdr"), OxmlElement("w:bottom")
    for name, value in (("val", "single"), ("sz", "6"), ("space", "1"), ("color", "auto")):
        bottom.set(qn(f"w:{name}"), value)
    borders.append(bottom)
    element.get_or_add_pPr().append(borders)
    return element


def _add_run(paragraph: DocxParagraph, run: Run, *, left: bool) -> None:
    added: DocxRun = paragraph.add_run(run.text)
    # None leaves it to the style.
    added.bold, added.italic = run.bold or None, run.italic or run.formula or None
    if run.struck:
        added.font.strike = True
    if run.code or run.formula:
        added.font.name = _CODE_FONT if run.code else _FORMULA_FONT
    if left:
        added.font.rtl = True
