"""Lines with places become blocks in reading order, whatever the page's direction and size."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.layout import blocks, quads
from tests.support.layouts import Line, column, line, texts, turned

LEFT = ["The harbour was quiet", "when the first ferry", "arrived that morning", "carrying only mail."]
RIGHT = ["Across the river the", "old mill had closed", "years ago and nobody", "remembered its owner."]
PRICES = [["Item", "Units", "Price"], ["Cups", "12", "3.50"], ["Plates", "", "12.00"], ["Sum", "12", "15.50"]]


def table(rows: list[list[str]], lefts: list[float], top: float = 0, pitch: float = 40) -> list[Line]:
    return [
        line(text, left, top + pitch * at)
        for at, row in enumerate(rows)
        for left, text in zip(lefts, row, strict=True)
        if text
    ]


def crooked(each: Line, degrees: float) -> Line:
    """Return a line turned around its own middle."""
    quad = (each.box[0], each.box[1], each.box[2], each.box[3])
    size = (quads.length(quad), quads.height(quad))
    return Line(each.text, quads.rectangle(quads.center(quad), size, quads.angle(quad) + degrees))


def rows(*lines: str) -> list[list[str]]:
    return [[text] for text in lines]


TWO_COLUMNS = [*column(LEFT, 0, 0), *column(RIGHT, 300, 0)]
NEWSPAPER = [
    line("Storm closes the harbour", 100, -80, height=45),
    *TWO_COLUMNS,
    line("A heading over both of the columns", 50, 160),
    *column(LEFT, 0, 200),
    *column(RIGHT, 300, 211),
    line("Page 3", 240, 400),
]
PAGES = {
    "two columns": TWO_COLUMNS,
    "newspaper": NEWSPAPER,
    "table": table(PRICES, [0, 200, 350]),
    "paragraphs": [*column(LEFT, 0, 0), *column(RIGHT, 0, 170)],
}
ANY_LINES = st.lists(
    st.builds(
        lambda text, left, top, width, turn: turned([line(text, left, top, width=width)], turn)[0],
        st.text(max_size=6),
        st.floats(-500, 500),
        st.floats(-500, 500),
        st.floats(0, 400),
        st.sampled_from([0, 0, 0, 0, 3, 90, 180, 270, 44]),
    ),
    max_size=25,
)


def test_columns_of_text_are_read_one_after_the_other() -> None:
    assert texts(blocks.read(TWO_COLUMNS)) == [rows(*LEFT), rows(*RIGHT)]


def test_columns_whose_lines_lie_side_by_side_are_no_table_whatever_their_spacing() -> None:
    for pitch in (24, 30, 45):
        page = [*column(LEFT, 0, 0, pitch=pitch), *column(RIGHT, 240, 0, pitch=pitch)]
        assert [row[0] for each in texts(blocks.read(page)) for row in each] == LEFT + RIGHT


def test_a_title_over_columns_and_a_footer_stand_alone() -> None:
    page = blocks.read(NEWSPAPER)
    assert texts(page) == [
        rows("Storm closes the harbour"),
        rows(*LEFT),
        rows(*RIGHT),
        rows("A heading over both of the columns"),
        rows(*LEFT),
        rows(*RIGHT),
        rows("Page 3"),
    ]
    assert [(each.kind, each.level) for each in page][:2] == [("title", 1), ("text", 0)]


def test_a_row_with_an_empty_cell_stays_in_the_table() -> None:
    (each,) = blocks.read(table(PRICES, [0, 200, 350]))
    assert (each.kind, texts([each])) == ("table", [PRICES])


def test_a_table_without_its_first_cell_has_its_place_empty() -> None:
    cells = [["", "2025", "2026"], ["North", "12.00", "14.00"], ["South", "9.00", "8.50"]]
    assert texts(blocks.read(table(cells, [0, 200, 350]))) == [cells]


def test_each_row_may_lack_another_cell() -> None:
    cells = [["Item", "", "Price"], ["", "2", "3.50"], ["Plates", "1", ""], ["Forks", "7", "9.00"]]
    assert texts(blocks.read(table(cells, [0, 200, 350]))) == [cells]


def test_a_head_over_two_columns_costs_no_column() -> None:
    page = [
        line("First half", 150, 0, width=250),
        line("Second half", 450, 0, width=250),
        *table(
            [["Town", "Q1", "Q2", "Q3", "Q4"], ["Kiel", "1", "2", "3", "4"], ["Bonn", "5", "6", "7", "8"]],
            [0, 150, 300, 450, 600],
            40,
        ),
    ]
    (each,) = texts(blocks.read(page))
    assert each[0] == ["", "First half", "", "Second half", ""]
    assert each[2] == ["Kiel", "1", "2", "3", "4"]


def test_a_sum_with_a_long_name_costs_no_column() -> None:
    page = [
        *table(PRICES, [0, 200, 350]),
        line("All of it together, paid", 0, 160, width=300),
        line("15.50", 350, 160),
    ]
    (each,) = texts(blocks.read(page))
    assert each == [*PRICES, ["All of it together, paid", "", "15.50"]]


def test_a_wrapped_cell_is_one_cell() -> None:
    page = [
        *table([["Item", "Text", "Price"], ["Cup", "blue, of clay,", "3.50"]], [0, 120, 350]),
        line("hand made", 120, 62),
        *table([["Plate", "white", "12.00"], ["Fork", "steel", "2.00"]], [0, 120, 350], 110),
    ]
    (each,) = texts(blocks.read(page))
    assert each[1] == ["Cup", "blue, of clay, hand made", "3.50"]
    assert len(each) == 4


def test_a_caption_over_a_table_and_a_note_below_it_are_text() -> None:
    page = [line("Prices in euros", 0, -40), *table(PRICES, [0, 200, 350]), line("No guarantee.", 0, 240)]
    assert texts(blocks.read(page)) == [rows("Prices in euros"), PRICES, rows("No guarantee.")]


def test_a_letterhead_right_above_a_table_is_none_of_its_rows() -> None:
    letterhead = [
        line("Harbour Paper Company", 0, 0, width=380),
        line("INVOICE", 560, 0, width=140),
        line("14 Quay Street", 0, 40, width=230),
        line("No. 2026-0417", 560, 40, width=155),
        line("Date: 17 November 2026", 560, 80, width=230),
    ]
    found = blocks.read([*letterhead, *table(PRICES, [0, 440, 640], top=140)])
    assert [block.kind for block in found][-1] == "table"
    assert len(found[-1].rows) == len(PRICES)
    order = [cell.text for block in found for cell in block.cells]
    assert order[:3] == ["Harbour Paper Company", "14 Quay Street", "INVOICE"]


def test_heads_that_are_centered_over_numbers_stay_in_the_table() -> None:
    heads = [line("2025", 205, -40, width=40), line("2026", 355, -40, width=40)]
    amounts = table([["Cups", "1,234.50", "3,250.00"], ["Plates", "12.00", "8.00"]], [0, 180, 330])
    [found] = blocks.read([*heads, *amounts])
    assert len(found.rows) == 3


def test_addresses_side_by_side_are_no_table() -> None:
    sender = ["Harbour Paper Company", "12 Quay Street", "Kiel 24103, Germany"]
    receiver = ["Miller and Daughters", "The Old Mill, Bridge Road", "Bremen 28195, Germany"]
    page = [*column(sender, 0, 0, pitch=28), *column(receiver, 400, 0, pitch=28)]
    assert texts(blocks.read(page)) == [rows(*sender), rows(*receiver)]


def test_columns_that_run_down_are_read_from_the_right() -> None:
    """As on a Japanese page: lines run down, the next one lies to the left."""
    lines = ["吾輩は猫である名前はまだ無い", "どこで生れたかとんと見当がつ", "かぬ何でも薄暗いじめじめした"]
    page = [
        Line(text, ((x, 0), (x, 400), (x - 25, 400), (x - 25, 0)))
        for text, x in zip(lines, (300, 260, 220), strict=True)
    ]
    assert texts(blocks.read(page)) == [rows(*lines)]


def test_a_title_across_the_page_comes_before_columns_that_run_down() -> None:
    column = Line("吾輩は猫である名前はまだ無い", ((300, 100), (300, 500), (275, 500), (275, 100)))
    assert texts(blocks.read([column, line("猫", 100, 20)])) == [
        rows("猫"),
        rows("吾輩は猫である名前はまだ無い"),
    ]


def test_a_number_below_columns_that_run_down_is_no_part_of_them() -> None:
    column = Line("吾輩は猫である", ((300, 100), (300, 300), (275, 300), (275, 100)))
    number = Line("12", ((300, 900), (300, 925), (275, 925), (275, 900)))
    last = Line("名前はまだ無い", ((260, 100), (260, 300), (235, 300), (235, 100)))
    assert texts(blocks.read([column, number, last])) == [
        rows("吾輩は猫である", "名前はまだ無い"),
        rows("12"),
    ]


def test_short_words_whose_boxes_are_crooked_stay_in_their_rows() -> None:
    """The box of a word of three letters is two degrees askew, which is a row's height across the page."""
    cells = [["No", "Name", "Qty"], ["1", "Bolt", "7"], ["2", "Nut", "4"], ["3", "Screw", ""], ["4", "", "9"]]
    page = [crooked(each, 2.5 if len(each.text) > 1 else 0) for each in table(cells, [0, 200, 700], pitch=40)]
    for degrees in (0, 8, -30, 90, 180):
        assert texts(blocks.read(turned(page, degrees))) == [cells]


def test_a_list_whose_numbers_stand_apart_is_no_table() -> None:
    page = [line("1.", 0, 0), *column(["Boil the water and", "wait for an hour."], 60, 0)]
    page += [line("2.", 0, 80), *column(["Then drink it."], 60, 80)]
    assert [block.kind for block in blocks.read(page)] == ["text", "text"]
    assert texts(blocks.read(page))[0] == [["1.", "Boil the water and"], ["wait for an hour."]]


def test_sentences_in_the_cells_of_a_table_are_no_columns() -> None:
    cells = [["Question", "Answer"]]
    cells += [
        [f"Where is the {place}", f"Behind the mill, left of the {place}"]
        for place in ("bank", "port", "quay")
    ]
    assert texts(blocks.read(table(cells, [0, 400], pitch=27))) == [cells]


def test_a_number_below_a_head_that_is_set_to_the_left_is_in_its_column() -> None:
    page = table([["Item", "Units"], ["Cups", ""], ["Forks", ""]], [0, 200])
    page += [line("12", 270, 40), line("7", 280, 80)]
    assert texts(blocks.read(page)) == [[["Item", "Units"], ["Cups", "12"], ["Forks", "7"]]]


def test_a_tall_line_whose_letters_are_no_wider_is_no_heading() -> None:
    page = [line("ÄÖ of the", 0, 0, width=90, height=28), *column(LEFT, 0, 40)]
    assert [block.kind for block in blocks.read(page)] == ["text"]


def test_scripts_that_run_left_are_read_from_the_right() -> None:
    cells = [["שם", "יחידות", "מחיר"], ["כוס", "12", "3.50"], ["צלחת", "1", "12.00"]]
    assert texts(blocks.read(table(cells, [350, 200, 0]))) == [cells]


@given(
    st.sampled_from(sorted(PAGES)), st.floats(-180, 180), st.floats(0.2, 8), st.randoms(use_true_random=False)
)
def test_turning_scaling_and_shuffling_a_page_changes_nothing(
    name: str, degrees: float, scale: float, order: random.Random
) -> None:
    page = turned(PAGES[name], degrees, scale)
    order.shuffle(page)
    assert texts(blocks.read(page)) == texts(blocks.read(PAGES[name]))


@given(st.sampled_from(sorted(PAGES)), st.randoms(use_true_random=False))
def test_lines_that_are_a_little_crooked_change_nothing(name: str, chance: random.Random) -> None:
    page = [turned([each], chance.uniform(-1, 1) / 10)[0] for each in PAGES[name]]
    assert texts(blocks.read(page)) == texts(blocks.read(PAGES[name]))


@given(ANY_LINES)
def test_every_line_is_in_exactly_one_block(lines: list[Line]) -> None:
    found = [cell.text for block in blocks.read(lines) for cell in block.cells]
    assert sorted(found) == sorted(text for each in lines if (text := " ".join(each.text.split())))


@given(ANY_LINES, st.sampled_from([90, 180, 270]))
def test_a_quarter_turn_of_any_page_loses_nothing(lines: list[Line], degrees: int) -> None:
    found = [cell.text for block in blocks.read(turned(lines, degrees)) for cell in block.cells]
    assert sorted(found) == sorted(cell.text for block in blocks.read(lines) for cell in block.cells)


@given(ANY_LINES)
def test_rows_of_a_table_have_the_same_columns(lines: list[Line]) -> None:
    for each in blocks.read(lines):
        if each.kind == "table":
            assert len({len(row) for row in each.rows}) == 1
            assert len(each.rows[0]) > 1


@pytest.mark.parametrize("count", [3000])
def test_a_page_of_as_many_lines_as_are_found_is_read_at_once(count: int) -> None:
    page = [line(f"word {at}", (at % 60) * 90, (at // 60) * 30) for at in range(count)]
    assert sum(len(each.cells) for each in blocks.read(page)) == count
