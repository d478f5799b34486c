"""Escaped text is shown as it is, by a CommonMark parser with GitHub's tables and strikethrough."""

import html
import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ocr_inference.layout import blocks, markdown
from ocr_inference.layout.blocks import Block
from ocr_inference.layout.frame import Cell

COMMONMARK = MarkdownIt("commonmark").enable(["table", "strikethrough"])

CONSTRUCTS = (
    *(
        "# heading",
        "#",
        "###### six",
        "####### seven",
        "closing # ##",
        "C#",
        "> quote",
        ">",
        "- list",
        "-",
        "+ plus",
    ),
    *(
        "* star",
        "1. one",
        "12) twelve",
        "1234567890. ten",
        "1.",
        "---",
        "- - -",
        "***",
        "_ _ _",
        "===",
        "=",
        "--",
        "--- -",
    ),
    *(
        "```",
        "~~~",
        "``` python",
        "`code`",
        "``",
        "    indented",
        "*em*",
        "_em_",
        "snake_case_name",
        "__init__",
        "**bold**",
    ),
    *(
        "~~gone~~",
        "~one~",
        "[a](b)",
        "[a]: http://b",
        "![a](b)",
        "[a][b]",
        "[x]",
        "- [ ] todo",
        "<b>",
        "</b>",
        "<!-- c -->",
    ),
    *(
        "<?php",
        "<http://a.b>",
        "a < b > c",
        "<a@b.c>",
        "&amp;",
        "&#35;",
        "&#x23;",
        "AT&T",
        "&copy",
        "a \\* b",
        "\\",
        "end\\",
    ),
    *(
        "| a | b |",
        "a | b",
        "--- | ---",
        "|---|",
        ":-:",
        ":--",
        "|",
        "!",
        "![",
        "](",
        "a  ",
        "\tcode",
        "[^1]: note",
    ),
    *(
        "2 * 3 * 4",
        "5_000_",
        "_x",
        "x_",
        "a*b*c",
        "504.50",
        "-5 °C",
        "+49 30",
        "=SUM(A1)",
        "1.5",
        "~5",
        "$5",
        "#tag",
        "#1 -",
    ),
)
ALPHABET = "#>-+*_=~`|:![](){}<>&;\\/!?.,\"'$%@^ 019aBxäß漢。"
WORDS = st.one_of(
    st.sampled_from(CONSTRUCTS),
    st.text(ALPHABET, max_size=12),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
    st.lists(st.sampled_from(CONSTRUCTS), max_size=3).map(" ".join),
).map(lambda text: " ".join(text.split()))
LINES = WORDS.filter(bool)


class Shown(HTMLParser):
    """The tags of a page and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(text: str) -> Shown:
    return Shown(COMMONMARK.render(text))


def cell(text: str) -> Cell:
    return Cell(text, 0, 0, 1, 1)


@given(st.lists(LINES, min_size=1, max_size=5))
@example(["a", "---"])
@example(["a | b", "--- | ---"])
@example(["a", "==="])
@example(["[a]: b", "[a]"])
@example(["*a", "b*"])
@example(["<div>", "x"])
def test_lines_of_a_paragraph_are_shown_as_they_are(lines: list[str]) -> None:
    text = "\n".join(map(markdown.line, lines))
    page = shown(text)
    assert page.tags == ["p"]
    assert page.text.strip() == "\n".join(lines)


@given(LINES, st.sampled_from([1, 2]))
@example("closing # ##", 2)
@example("##", 1)
def test_a_heading_is_shown_as_it_is(text: str, level: int) -> None:
    page = shown(markdown.block(Block("title", (((cell(text),),),), level)))
    assert page.tags == [f"h{level}"]
    assert page.text.strip() == text


@given(st.lists(st.lists(WORDS, min_size=2, max_size=2), min_size=2, max_size=4))
@example([["a|b", "\\|"], ["\\", "|"]])
def test_cells_of_a_table_are_shown_as_they_are(rows: list[list[str]]) -> None:
    table = Block("table", tuple(tuple((cell(text),) if text else () for text in row) for row in rows))
    page = COMMONMARK.render(markdown.block(table))
    found = [html.unescape(text) for text in re.findall(r"<t[hd]>(.*?)</t[hd]>", page, re.DOTALL)]
    assert found == [text for row in rows for text in row]


@given(st.lists(st.lists(LINES, min_size=1, max_size=3), min_size=2, max_size=4))
def test_paragraphs_stay_apart(paragraphs: list[list[str]]) -> None:
    page = [Block("text", tuple(((cell(text),),) for text in lines)) for lines in paragraphs]
    tags = shown(markdown.page(page)).tags
    assert tags == ["p"] * len(paragraphs)


@pytest.mark.parametrize(
    "text",
    [
        "Invoice 7: 504.50 EUR (paid)",
        "snake_case_name",
        "AT&T: 5 < 6, a > b",
        "-5 °C",
        "+49 30 123",
        "1.5 kg",
        "C#",
        "a - b = c",
    ],
)
def test_ordinary_text_has_no_backslash(text: str) -> None:
    assert markdown.line(text) == text


def test_a_page_without_blocks_is_empty() -> None:
    assert markdown.page(blocks.read([])) == ""
