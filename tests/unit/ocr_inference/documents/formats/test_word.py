"""Word documents are opened again, by python-docx."""

import io
import time
import zipfile

import docx
import pytest
from docx.document import Document
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.documents.formats import blocks, cells, tables, word
from ocr_inference.documents.formats.blocks import Cell, Run, Table, words
from ocr_inference.documents.formats.page import ReadPage
from ocr_wire.errors import ErrorInfo

TEXT = """# Invoice *4711*

Blue **Harbour**
Ltd

4. four
5. five

\\[ a_1 \\]

| A | B |
|---|---|
| 1 | 2 |

<table><tr><td rowspan=2>R</td><td colspan=2>wide</td></tr><tr><td>a</td><td>b</td></tr></table>

---

```
x  y
```
"""


def written(*texts: str) -> bytes:
    out = io.BytesIO()
    word.write([ReadPage(index=number, text=text) for number, text in enumerate(texts)], out, "Title")
    return out.getvalue()


def opened(*texts: str) -> Document:
    return docx.Document(io.BytesIO(written(*texts)))


def test_headings_lists_formulas_and_looks() -> None:
    document = opened(TEXT)
    paragraphs = {each.text: each for each in document.paragraphs}
    heading = paragraphs["Invoice 4711"]
    assert heading.style is not None
    assert heading.style.name == "Heading 1"
    assert [run.italic for run in heading.runs] == [None, True]
    assert paragraphs["Blue Harbour\nLtd"].runs[1].bold
    assert {"4.\tfour", "5.\tfive", "x  y"} <= paragraphs.keys()
    assert paragraphs["a_1"].runs[0].font.name == "Cambria Math"
    assert document.core_properties.title == "Title"


def test_full_lines_of_a_paragraph_run_on_and_short_ones_stay() -> None:
    prose = "the quick brown fox jumps over the lazy\ndog and the other quick brown fox jumps\nover it\nagain"
    address = "Blue Harbour Ltd\n12 Long Street"
    japanese = "吾輩は猫である。名前はまだ無い。どこで\nとんと見当がつかぬ。何でも薄暗いじめ\n鳴いた"
    assert [each.text for each in opened(f"{prose}\n\n{address}\n\n{japanese}").paragraphs] == [
        prose.replace("\n", " ", 2),
        address,
        japanese.replace("\n", ""),
    ]


def test_tables_are_tables() -> None:
    first, second = ([[cell.text for cell in row.cells] for row in each.rows] for each in opened(TEXT).tables)
    assert first == [["A", "B"], ["1", "2"]]
    assert second == [["R", "wide", "wide"], ["R", "a", "b"]]


def test_each_page_begins_on_a_new_one_whatever_it_begins_with() -> None:
    document = opened("one", "two", "| A |\n|---|\n| 1 |", "")
    breaks = [each for each in document.paragraphs if each.paragraph_format.page_break_before]
    assert len(breaks) == 3
    assert breaks[0].text == "two"


def test_a_page_that_couldnt_be_read_says_so() -> None:
    out = io.BytesIO()
    word.write([ReadPage(index=4, error=ErrorInfo(message="it is damaged"))], out)
    assert docx.Document(out).paragraphs[0].text == "Page 5 couldn't be read: it is damaged"


def test_the_same_pages_give_the_same_bytes() -> None:
    assert written(TEXT) == written(TEXT)
    with zipfile.ZipFile(io.BytesIO(written(TEXT))) as package:
        assert {entry.date_time[0] for entry in package.infolist()} == {1980}


def test_text_that_runs_to_the_left_says_so() -> None:
    (paragraph,) = opened("שלום 12").paragraphs
    assert paragraph.runs[0].font.rtl
    assert "<w:bidi/>" in paragraph._p.xml


def test_hostile_text_is_harmless() -> None:
    every = "".join(map(chr, range(0x300))) + "\ufffe\uffff\u202e\ud800"
    texts = (
        every,
        f"<table><tr><td>{every}",
        f"```\n{every}",
        "<table>" * 1000,
        "[" * 5000,
        "> " * 500,
        "<td>]]>",
    )
    assert "abc" in opened(*texts).paragraphs[0].text


ENTITIES = "a&#12;b&#x202e;c&#1;"


@pytest.mark.parametrize(
    "text", [ENTITIES, f"![{ENTITIES}](x)", f"<div>{ENTITIES}</div>", f"<table><tr><td>{ENTITIES}</table>"]
)
def test_entities_are_no_way_around_what_is_taken_out(text: str) -> None:
    document = opened(text)
    found = "".join(element.text or "" for element in document.element.body.iter())
    assert not set(found) & {"\x01", "\x0c", "\u202e"}
    assert found.strip("[]").startswith("a")


def test_a_text_of_many_lines_takes_time_by_its_length() -> None:
    began = time.process_time()
    assert words(word.flowing((Run("a\n" * 100_000),))) == "a\n" * 100_000
    assert time.process_time() - began < 2  # by the square it was 16 s


def test_no_word_of_a_table_is_lost_outside_of_its_cells() -> None:
    html = "<table><caption>Sums</caption><tr><th>A<th>B<tr><td>1<td>2</td></tr>\n\nThe rest of the page"
    rows = [[words(cell.runs) for cell in row] for row in tables.table(html).rows]
    assert rows == [["Sums"], ["A", "B"], ["1", "2"], ["The rest of the page"]]
    many = tables.table(f"<table><tr>{'<td>x' * tables.MAX_CELLS}<td>2</td></tr></table>").rows
    assert [len(row) for row in many] == [tables.MAX_CELLS, 1]
    assert words(many[1][0].runs) == "2"


ROWS = st.lists(
    st.lists(st.builds(Cell, st.just((Run("x"),)), st.integers(1, 70), st.integers(1, 4)), max_size=4),
    max_size=5,
)


@given(ROWS)
def test_every_row_of_a_grid_has_its_width_and_no_word_is_lost(rows: list[list[Cell]]) -> None:
    content = Table(tuple(map(tuple, rows)))
    grid = cells.placed(content)
    assert all(sum(cell.columns for cell, _ in row) <= cells.MAX_COLUMNS for row in grid)
    begun = "".join(blocks.words(cell.runs) for row in grid for cell, goes_on in row if not goes_on)
    assert len(begun) == sum(map(len, rows))
