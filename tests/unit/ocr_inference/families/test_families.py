from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from ocr_inference import families
from ocr_inference.families import plain, tags
from ocr_inference.protocol.page import Box
from ocr_wire import engines
from ocr_wire.tasks import Task


@dataclass(frozen=True)
class Line:
    text: str
    box: tuple[tuple[float, float], ...]


def line(text: str, left: float, top: float, *, width: float = 0, height: float = 20) -> Line:
    right, bottom = left + (width or len(text) * height / 2), top + height
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
    assert boxes[2].box == (10, 150, 350, 221)


def test_text_that_looks_like_markdown_stays_text() -> None:
    assert plain.read(Task.DOCUMENT, None, [line("# 4 apples", 0, 0)])[0] == "\\# 4 apples"


def test_find_ignores_case_and_spacing() -> None:
    assert plain.read(Task.FIND, "INVOICE7", PAGE) == ("Invoice 7", (Box("INVOICE7", (10, 10, 190, 50)),))


def test_find_may_span_the_cells_of_a_row() -> None:
    assert plain.read(Task.FIND, "sum total", PAGE) == ("Sum Total", (Box("sum total", (10, 200, 350, 221)),))


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


@dataclass(frozen=True)
class Page:
    lines: list[Line]
    text: str = ""
    width: int = 420
    height: int = 300


def test_places_are_written_as_deepseek_ocr_writes_them() -> None:
    text, boxes, placed = plain.placed(
        Task.DOCUMENT,
        None,
        Page([line("Invoice 7", 21, 15, height=60), line("Hi", 21, 90), line("you", 21, 111)]),
    )
    assert text == "# Invoice 7\n\nHi\nyou"
    assert [box.label for box in boxes] == ["title", "text"]
    assert placed == (
        "<|ref|>title<|/ref|><|det|>[[50, 50, 692, 250]]<|/det|>\n# Invoice 7\n\n"
        "<|ref|>text<|/ref|><|det|>[[50, 300, 121, 436]]<|/det|>\nHi\nyou"
    )
    assert plain.placed(Task.FIND, "hi", Page([line("Hi", 21, 90)]))[2] == (
        "<|ref|>hi<|/ref|><|det|>[[50, 300, 98, 366]]<|/det|>"
    )


@given(st.sampled_from([Task.DOCUMENT, Task.OCR, Task.FIND]), st.permutations(PAGE), st.integers(1, 9))
def test_what_is_placed_is_what_is_read(task: Task, lines: list[Line], count: int) -> None:
    page = Page(lines[:count])
    text, boxes, placed = plain.placed(task, "i", page)
    assert (text, boxes) == plain.read(task, "i", page.lines)
    found = tags.parse(placed)
    assert [block.label for block in found.blocks] == [box.label for box in boxes]
    for block, box in zip(found.blocks, boxes, strict=True):
        (quad,) = block.places
        for mine, theirs in zip(tags.pixels(quad, page.width, page.height), box.box, strict=True):
            assert abs(mine - theirs) <= 1
    if task is Task.DOCUMENT:
        assert "\n\n".join(block.text.strip("\n") for block in found.blocks) == text


@given(st.lists(st.text(alphabet="<|/refdtgouni>[] 12,", min_size=1, max_size=40), min_size=1, max_size=3))
def test_what_looks_like_a_tag_on_the_page_is_none(texts: list[str]) -> None:
    lines = [line(text, 10, 40.0 * at) for at, text in enumerate(texts)]
    for task in (Task.DOCUMENT, Task.OCR):
        _, boxes, placed = plain.placed(task, None, Page(lines))
        assert len(tags.parse(placed).blocks) == len(boxes)
        assert placed.count("<|det|>") == placed.count("<|ref|>") == len(boxes)
