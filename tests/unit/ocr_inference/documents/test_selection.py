import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.documents.selection import ALL, MAX_CHARACTERS, Selection
from ocr_inference.errors import ApiError


@pytest.mark.parametrize(
    ("text", "count", "indices"),
    [
        ("1", 1, (0,)),
        ("1-3,7", 9, (0, 1, 2, 6)),
        (" 7 , 1 - 3 ", 9, (0, 1, 2, 6)),
        ("5-", 7, (4, 5, 6)),
        ("-2", 7, (0, 1)),
        ("2,2,1-2", 7, (0, 1)),
        ("1-1000000", 3, (0, 1, 2)),
        ("3-9", 3, (2,)),
    ],
)
def test_pages_are_chosen_in_the_documents_order_each_once(
    text: str, count: int, indices: tuple[int, ...]
) -> None:
    assert Selection.parse(text).indices(count, 100) == indices


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "1,",
        "0",
        "0-2",
        "3-2",
        "-",
        "--2",
        "a",
        "1..3",
        "1;2",
        "-0",
        "²",
        "1000001",
        "9" * 5000,
        "1," * MAX_CHARACTERS,
    ],
)
def test_what_is_no_selection_is_refused(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        Selection.parse(text, "--pages")
    assert (caught.value.status, caught.value.param) == (422, "--pages")
    assert "1-3,7" in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("text", ["4", "1,4", "4-9", "4-"])
def test_a_page_that_isnt_there_is_refused(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        Selection.parse(text).indices(3, 100)
    assert (caught.value.status, caught.value.code) == (422, "no_such_page")
    assert caught.value.message == "there is no page 4: the document has 3 pages"


def test_only_those_that_are_chosen_count_for_the_limit() -> None:
    assert Selection.parse("900-903").indices(1000, 4) == (899, 900, 901, 902)
    for selection in (ALL, Selection.parse("900-904")):
        with pytest.raises(ApiError) as caught:
            selection.indices(1000, 4)
        assert (caught.value.status, caught.value.code) == (413, "too_many_pages")


def test_indices_from_0_choose_as_well() -> None:
    assert Selection.of_indices([2, 0]).indices(3, 10) == (0, 2)
    for wrong in ([-1], [10**9]):
        with pytest.raises(ApiError):
            Selection.of_indices(wrong)


@given(st.text("0123456789-, ", max_size=12), st.integers(1, 12))
def test_every_text_is_pages_of_the_document_or_refused(text: str, count: int) -> None:
    indices: tuple[int, ...] | None = None
    with contextlib.suppress(ApiError):
        indices = Selection.parse(text).indices(count, 8)
    if indices is not None:
        assert 0 < len(indices) <= 8
        assert list(indices) == sorted(set(indices))
        assert set(indices) <= set(range(count))


def test_errors_count_as_the_client_does() -> None:
    with pytest.raises(ApiError, match=r"no page 3: the document has 3 pages, counted from 0"):
        Selection.of_indices([3]).indices(3, 9)
    with pytest.raises(ApiError, match=r"such as 0-1$"):
        Selection.of_indices([0, 1, 2]).indices(3, 2)
