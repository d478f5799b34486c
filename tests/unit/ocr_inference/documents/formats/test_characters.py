"""Characters in the order in which a line shows them, and those that are left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.documents.formats import characters

MIXED = st.text(st.sampled_from("abc אבג ا ب 12.5 ()-,\u064e"), max_size=20)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Total 12", "Total 12"),
        ("שלום 12", "12 םולש"),
        ("שלום עולם (test) 12", "12 (test) םלוע םולש"),
        ("abc שלום עולם def", "abc םלוע םולש def"),
        ('סה"כ 12.50 ש"ח', 'ח"ש 12.50 כ"הס'),
        ("فاتورة 4711", "4711 ةروتاف"),
    ],
)
def test_lines_are_shown_from_the_left(written: str, shown: str) -> None:
    assert characters.shown(written) == shown


@given(MIXED)
def test_no_character_is_lost(line: str) -> None:
    turned = str.maketrans("()", "((")
    assert sorted(characters.shown(line).translate(turned)) == sorted(line.translate(turned))


@given(st.text())
def test_what_is_left_can_stand_in_xml(text: str) -> None:
    safe = characters.safe(text)
    assert all(each in "\t\n" or ord(each) >= 0x20 for each in safe)
    safe.encode()
    assert not set(safe) & set("\u202e\u2066\ufffe\uffff\x7f\x85")


def test_marks_have_a_width_since_viewers_leave_out_what_has_none() -> None:
    assert 0 < characters.advance("\u064e") < characters.advance("i") < characters.advance("漢")
