r"""Text as Markdown that shows the text again.

Text on a page may look like any construct of CommonMark or of GitHub's tables and strikethrough: each character that
could begin one gets a backslash, and no other, so that ordinary text stays as it is. Links that renderers make of bare
addresses show the address, and aren't escaped.
"""

import re
from collections.abc import Sequence
from typing import Final

from ocr_inference.layout import words
from ocr_inference.layout.blocks import Block
from ocr_inference.layout.tables import Entry

_INLINE: Final = re.compile(
    r"""
      [\\`*\[~]                       # escapes, code, emphasis, links and pictures, strikethrough
    | (?<![^\W_])_ | _(?![^\W_])      # emphasis, but within a word
    | <(?=[A-Za-z/!?])                # tags, comments, links in pointed brackets
    | &(?=\#?[A-Za-z0-9]+;)           # named and numbered characters
    """,
    re.VERBOSE,
)
_START: Final = re.compile(
    r"""
      (?P<mark>)\#(?=\#{0,5}(?:\ |$))       # heading
    | >                                    # quote
    | [-+](?=\ |$)                         # list; a rule of - - -
    | [-=](?=[-=]*$)                       # underline of a heading, rule
    | [-:|](?=[-:|\ ]*$)                   # line below the head of a table
    | (?<=\d)[.)](?=\ |$)                  # numbered list
    """,
    re.VERBOSE,
)
_NUMBER: Final = re.compile(r"\d{1,9}(?=[.)](?: |$))", re.ASCII)
_CLOSING: Final = re.compile(r"(?:(?<= )|^)#+$")


def page(blocks: Sequence[Block]) -> str:
    """Return blocks as a Markdown document."""
    return "\n\n".join(block(each) for each in blocks)


def block(block: Block) -> str:
    """Return a block as Markdown: headings, paragraphs with a line for each row, tables of GitHub's kind."""
    match block.kind:
        case "table":
            head, *body = ([_cell(entry) for entry in row] for row in block.rows)
            return "\n".join(map(_row, [head, ["---"] * len(head), *body]))
        case "title":
            return f"{'#' * block.level} {heading(_text(block.rows[0]))}"
        case _:
            return "\n".join(line(_text(row)) for row in block.rows)


def line(text: str) -> str:
    """Escape a line of a paragraph."""
    number = _NUMBER.match(text)
    start = _START.match(text, number.end() if number else 0)
    if start is None:
        return inline(text)
    return f"{text[: start.start()]}\\{text[start.start()]}{inline(text[start.end() :], text[start.start()])}"


def heading(text: str) -> str:
    """Escape the text of a heading, whose last word may be mistaken for its end."""
    return _CLOSING.sub(lambda found: "\\" + found[0], inline(text))


def inline(text: str, before: str = "") -> str:
    """Escape what has a meaning anywhere in a line; `before` is the character before the text."""
    return _INLINE.sub(lambda found: "\\" + found[0], before + text)[len(before) :]


def _text(row: Sequence[Entry]) -> str:
    return " ".join(words.joined([cell.text for cell in entry]) for entry in row)


def _cell(entry: Entry) -> str:
    return inline(words.joined([cell.text for cell in entry])).replace("|", "\\|")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
