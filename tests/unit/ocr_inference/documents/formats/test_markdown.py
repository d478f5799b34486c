"""Markdown of pages becomes blocks, and plain text and Markdown as files."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.documents.formats import blocks, markdown, page, parsing, plain
from ocr_inference.documents.formats.blocks import Cell, Code, Heading, Paragraph, Rule, Run, Table
from ocr_inference.documents.formats.page import ReadPage
from ocr_inference.layout import markdown as layout_markdown
from ocr_wire.errors import ErrorInfo

HTML_TABLE = "<table><tr><td rowspan=2>R</td><th colspan='2'>wide<br>1</th></tr><tr><td>a</td><td>b"


def read(text: str, mode: str = "document", engine: str = "transformers") -> ReadPage:
    return ReadPage(index=0, text=text, metadata={"mode": mode, "engine": engine})


def unread(index: int, message: str) -> ReadPage:
    return ReadPage(index=index, error=ErrorInfo(message=message))


def text_of(found: list[blocks.Block]) -> list[str]:
    return [blocks.words(each.runs) for each in found if isinstance(each, Heading | Paragraph)]


def test_headings_paragraphs_and_code() -> None:
    found = parsing.parsed("## A *b*\n\none **two**\nthree\n\n---\n\n```\nx  y\n```")
    assert found == [
        Heading(2, (Run("A "), Run("b", italic=True))),
        Paragraph((Run("one "), Run("two", bold=True), Run("\n"), Run("three"))),
        Rule(),
        Code("x  y"),
    ]


def test_lists_keep_the_numbers_that_were_written() -> None:
    found = parsing.parsed("4. four\n5. five\n   - within\n\n> quoted")
    assert [(each.mark, each.depth) for each in found if isinstance(each, Paragraph)] == [
        ("4.", 0),
        ("5.", 0),
        (parsing.BULLET, 1),
        ("", 1),
    ]


def test_a_line_of_dashes_below_a_text_makes_no_heading() -> None:
    assert parsing.parsed("Total\n---") == [Paragraph((Run("Total"),)), Rule()]


def test_tables_of_github_and_of_html() -> None:
    written, made = parsing.parsed("| A | B |\n|---|---|\n| 1 | x\\|2 |\n\n" + HTML_TABLE)
    assert isinstance(written, Table)
    assert [[blocks.words(cell.runs) for cell in row] for row in written.rows] == [["A", "B"], ["1", "x|2"]]
    assert made == Table(
        (
            (Cell((Run("R"),), 1, 2), Cell((Run("wide\n1", bold=True),), 2, 1, is_head=True)),
            (Cell((Run("a"),)), Cell((Run("b"),))),
        )
    )


def test_spans_that_nobody_means_are_bounded() -> None:
    (made,) = parsing.parsed("<table><tr><td colspan=99999999 rowspan=-1>x</td></tr></table>")
    assert made == Table(((Cell((Run("x"),), 1, 1),),))


@pytest.mark.parametrize(
    ("written", "formula"),
    [
        (r"\(a_1 * b_2\)", "a_1 * b_2"),
        ("$x_1$", "$x_1$"),
        ("$$x_1 y_1$$", "x_1 y_1"),
        ("\\[\na\n= b\n- c\n\\]", "a\n= b\n- c"),
        (r"\[ \frac{a}{b} \]", r"\frac{a}{b}"),
    ],
)
def test_formulas_are_no_markdown(written: str, formula: str) -> None:
    assert parsing.parsed(f"x\n\n{written}\n\ny") == [
        Paragraph((Run("x"),)),
        Paragraph((Run(formula, formula=True),)),
        Paragraph((Run("y"),)),
    ]


@pytest.mark.parametrize("written", ["costs $5 and $6", r"\(open", "$$", r"\[ \]", "a $ b $"])
def test_money_and_what_has_no_end_are_text(written: str) -> None:
    (found,) = parsing.parsed(written)
    assert isinstance(found, Paragraph)
    assert not any(run.formula for run in found.runs)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cf"]), min_size=1, max_size=60))
def test_what_rapidocr_read_is_shown_as_it_stands(line: str) -> None:
    line = " ".join(line.split())
    found = parsing.blocks(read(layout_markdown.line(line), engine="rapidocr"))
    assert " ".join(" ".join(text_of(found)).split()) == line


@given(st.text(st.sampled_from("<table>d/r|-#*_`\\[($)] \n1.:>~!&;x\x00\ud800"), max_size=120))
def test_whatever_a_model_writes_becomes_blocks(text: str) -> None:
    plain.written(parsing.parsed(text))


def test_a_text_that_would_take_its_parser_minutes_is_plain() -> None:
    assert text_of(parsing.parsed("<!--" * 250_000)) == ["<!--" * 250_000]
    assert parsing.parsed("\\[\n" * 20_000)


def test_plain_text_is_no_markdown() -> None:
    for mode, engine in (("ocr", "transformers"), ("find", "transformers"), ("free", "rapidocr")):
        found = parsing.blocks(read("# 12\n1. x\n\n* y", mode, engine))
        assert text_of(found) == ["# 12\n1. x", "* y"]
    assert isinstance(parsing.blocks(read("# 12", "free"))[0], Heading)


def test_files_say_where_a_page_couldnt_be_read() -> None:
    pages = [read("# A\n\n- b\n- c"), unread(1, "the picture -- damaged"), unread(2, "page 3 has no size")]
    assert "".join(markdown.pieces(pages)) == (
        "# A\n\n- b\n- c\n\n---\n\n<!-- page 2 couldn't be read: the picture - - damaged -->\n\n---\n\n"
        "<!-- page 3 has no size -->\n"
    )
    assert "".join(plain.pieces(pages)) == (
        "A\n\n• b\n• c\n\f[page 2 couldn't be read: the picture -- damaged]\n\f[page 3 has no size]\n"
    )
    assert text_of(parsing.blocks(pages[2])) == ["Page 3 has no size"]
    assert "".join(markdown.pieces([])) == ""


def test_a_table_as_plain_text_has_tabs() -> None:
    assert plain.written(parsing.parsed("| A | B |\n|---|---|\n| 1 | 2 |")) == "A\tB\n1\t2"


def test_results_of_newer_servers_are_read() -> None:
    sent = msgspec.json.encode({"index": 3, "text": "x", "boxes": [], "dpi": None, "unknown": 1})
    assert page.decode(sent) == ReadPage(index=3, text="x")
