"""Markdown of pages as blocks, which other formats are written from."""

import re
from dataclasses import replace
from functools import cache
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from ocr_inference.documents.formats import characters, formulas, tables
from ocr_inference.documents.formats.blocks import (
    Block,
    Cell,
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

BULLET: Final = "•"
MAX_CHARACTERS: Final = 100_000
"""Of a text that is parsed; a longer one, which no page has, is plain text. The parser takes time by the square of some
texts, such as beginnings of comments without an end: 3 s for these."""
_BREAK: Final = re.compile(r"<br\s*/?>", re.IGNORECASE)


def blocks(page: ReadPage) -> list[Block]:
    """Return what is on a page; of one that couldn't be read, why."""
    if page.fault is not None:
        return [Paragraph((Run(characters.safe(page.fault[:1].upper() + page.fault[1:]), italic=True),))]
    text = characters.safe(page.text)
    if not page.is_markdown:
        return _lines(text)
    return parsed(text, has_formulas=not page.is_escaped)


def _lines(text: str) -> list[Block]:
    found: list[Block] = []
    for written, is_table in tables.parted(text):
        if is_table:
            found.append(tables.table(written))
            continue
        parts = (part.strip("\n") for part in written.split("\n\n"))
        found.extend(Paragraph((Run(part),)) for part in parts if part.strip())
    return found


def parsed(text: str, *, has_formulas: bool = True) -> list[Block]:
    """Return the blocks of a Markdown text."""
    if len(text) > MAX_CHARACTERS:
        return _lines(text)
    found: list[Block] = []
    for written, is_table in tables.parted(text):
        if is_table:
            found.append(tables.table(written))
        else:
            found.extend(_Blocks(_parser(has_formulas).parse(written)).found)
    return found


@cache
def _parser(has_formulas: bool) -> MarkdownIt:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    # A line of dashes below a text is a rule on pages that were read.
    parser.disable(["lheading", "code", "reference"])
    return formulas.known_to(parser) if has_formulas else parser


class _Blocks:
    """Blocks of a list of tokens, which are flat: each opening one has its closing one."""

    def __init__(self, tokens: list[Token]) -> None:
        self.found: list[Block] = []
        self._marks: list[str] = []
        """Of the lists that are open; a number is that of the next item."""
        self._item = ""
        """Mark of the item whose first paragraph comes next."""
        self._quotes = 0
        self._heading: int | None = None
        self._rows: list[list[Cell]] | None = None
        for token in tokens:
            self._add(token)

    def _add(self, token: Token) -> None:  # noqa: C901, PLR0912 one case for each kind of token
        match token.type:
            case "inline" if self._rows is not None:
                is_head = bool(self._rows) and len(self._rows) == 1
                self._rows[-1].append(Cell(runs(token, bold=is_head), is_head=is_head))
            case "inline" if self._heading is not None:
                self.found.append(Heading(self._heading, runs(token)))
            case "inline":
                self._paragraph(runs(token))
            case "heading_open":
                self._heading = int(token.tag[1:])
            case "heading_close":
                self._heading = None
            case "bullet_list_open":
                self._marks.append(BULLET)
            case "ordered_list_open":
                self._marks.append("")
            case "bullet_list_close" | "ordered_list_close":
                self._marks.pop()
            case "list_item_open":
                self._item = self._marks[-1] or f"{token.info}{token.markup}"
            case "list_item_close":
                if self._item:
                    self._paragraph(())
            case "blockquote_open":
                self._quotes += 1
            case "blockquote_close":
                self._quotes -= 1
            case "fence" | "code_block":
                self.found.append(Code(token.content.rstrip("\n")))
            case formulas.KIND:
                self._paragraph((Run(token.content, formula=True),))
            case "html_block":
                if text := tables.text(token.content):
                    self._paragraph((Run(text),))
            case "hr":
                self.found.append(Rule())
            case "table_open":
                self._rows = []
            case "tr_open" if self._rows is not None:
                self._rows.append([])
            case "table_close" if self._rows is not None:
                self.found.append(Table(tuple(map(tuple, self._rows))))
                self._rows = None

    def _paragraph(self, content: Runs) -> None:
        depth = self._quotes + max(0, len(self._marks) - 1)
        if self._item or words(content).strip():
            self.found.append(Paragraph(content, self._item, depth))
        self._item = ""


def runs(inline: Token, *, bold: bool = False) -> Runs:
    """Return the runs of a text."""
    look, found = Run("", bold=bold), list[Run]()
    for token in inline.children or ():
        match token.type:
            case "strong_open" | "strong_close":
                look = replace(look, bold=bold or token.type == "strong_open")
            case "em_open" | "em_close":
                look = replace(look, italic=token.type == "em_open")
            case "s_open" | "s_close":
                look = replace(look, struck=token.type == "s_open")
            case "text":
                # Entities, such as &#12;, have become characters.
                found.append(replace(look, text=characters.safe(token.content)))
            case "code_inline":
                found.append(replace(look, text=token.content, code=True))
            case formulas.KIND:
                found.append(replace(look, text=token.content, formula=True))
            case "softbreak" | "hardbreak":
                found.append(replace(look, text="\n"))
            case "html_inline" if _BREAK.fullmatch(token.content):
                found.append(replace(look, text="\n"))
            case "image" if token.content:
                found.append(replace(look, text=f"[{token.content}]", italic=True))
    return tuple(run for run in found if run.text)
