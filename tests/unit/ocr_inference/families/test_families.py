from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from ocr_inference import families
from ocr_inference.families import plain
from ocr_inference.protocol.page import Box
from ocr_wire import engines
from ocr_wire.tasks import Task


@dataclass(frozen=True)
class Line:
    text: str
    box: tuple[tuple[float, float], ...]


def line(text: str, left: float, top: float, *, width: float = 100, height: float = 20) -> Line:
    right, bottom = left + width, top + height
    return Line(text, ((left, top), (right, top), (right, bottom), (left, bottom)))


PAGE = [
    line("Total", 300, 201),
    line("Invoice 7", 10, 10, height=40),
    line("Dear customer,", 10, 80),
    line("thank you.", 10, 105),
    line("Item", 10, 150),
    line("Price", 300, 152),
    line("Cups|large", 10, 175),
    line("1.00", 300, 174),
    line("Sum", 10, 200),
]


def test_every_engine_has_a_family() -> None:
    for engine in engines.NAMES:
        assert families.of(engine).tasks


def test_rows_are_read_from_the_top_and_from_the_left() -> None:
    text, boxes = plain.read(Task.FREE, None, PAGE)
    assert text.splitlines()[0] == "Invoice 7"
    assert text.splitlines()[-1] == "Sum Total"
    assert len(boxes) == len(PAGE)


def test_a_document_has_headings_paragraphs_and_tables() -> None:
    text, boxes = plain.read(Task.DOCUMENT, None, PAGE)
    assert text == (
        "# Invoice 7\n\n"
        "Dear customer,\nthank you.\n\n"
        "| Item | Price |\n| --- | --- |\n| Cups\\|large | 1.00 |\n| Sum | Total |"
    )
    assert [box.label for box in boxes] == ["title", "text", "table"]
    assert boxes[2].box == (10, 150, 400, 221)


def test_text_that_looks_like_markdown_stays_text() -> None:
    assert plain.read(Task.DOCUMENT, None, [line("# 4 apples", 0, 0)])[0] == "\\# 4 apples"


def test_find_ignores_case_and_spacing() -> None:
    assert plain.read(Task.FIND, "INVOICE7", PAGE) == ("Invoice 7", (Box("INVOICE7", (10, 10, 110, 50)),))


def test_find_may_span_the_cells_of_a_row() -> None:
    assert plain.read(Task.FIND, "sum total", PAGE) == ("Sum Total", (Box("sum total", (10, 200, 400, 221)),))


def test_find_without_a_match_is_empty() -> None:
    assert plain.read(Task.FIND, "receipt", PAGE) == ("", ())


def test_an_empty_page_is_empty() -> None:
    for task in plain.TASKS:
        assert plain.read(task, "x", []) == ("", ())


@given(
    st.lists(
        st.builds(line, st.text(max_size=6), st.floats(0, 500), st.floats(0, 500), width=st.floats(1, 90)),
        max_size=12,
    ),
    st.sampled_from(plain.TASKS),
    st.text(max_size=4),
)
def test_any_lines_make_a_page_and_nothing_is_lost(lines: list[Line], task: Task, term: str) -> None:
    text, boxes = plain.read(task, term, lines)
    for box in boxes:
        x1, y1, x2, y2 = box.box
        assert x1 <= x2
        assert y1 <= y2
    if task in {Task.OCR, Task.FREE}:
        words = sorted(word for each in lines for word in each.text.split())
        assert sorted(text.split()) == words
