"""The line that says how far a run is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.cli.read import progress
from ocr_inference.cli.read.progress import Progress


def test_a_run_of_several_documents() -> None:
    state = Progress(3).begun(0, "a.pdf", 0.0)
    assert progress.line(state, 60, 0.0) == "────────────────  0/3  a.pdf"
    state = state.page(0, 0, 4, 0.5).page(0, 1, 4, 1.0).page(0, 2, 4, 2.0)
    assert state.rate == 1.0
    # 2 pages are left of this one, and the others are taken to have 4 each.
    assert state.seconds_left() == 10.0
    assert (
        progress.line(state, 90, 9.0) == "━━━─────────────  0/3  page 3 of 4  1.0 pages/s  10 s left  a.pdf"
    )
    state = state.page(0, 4, 4, 4.0).closed(0, 4, failed=False).begun(1, "b.pdf", 4.0)
    assert (state.share, state.seconds_left()) == (1 / 3, 8.0)
    state = state.closed(1, None, failed=True)
    assert "2/3  1 failed" in progress.line(state, 90, 9.0)


def test_one_document_has_no_count() -> None:
    state = Progress(1).begun(0, "a.pdf", 0.0).page(0, 0, 2, 0.0)
    assert progress.line(state, 60, 0.0, unicode=False) == "----------------  page 1 of 2  a.pdf"


def test_a_page_that_takes_long_shows_that_time_goes_on() -> None:
    state = Progress(1).begun(0, "a.png", 5.0).page(0, 0, 1, 6.0)
    assert progress.line(state, 60, 75.0) == "────────────────  1 m 10 s  a.png"


def test_what_takes_long_before_pages_is_said() -> None:
    state = Progress(1).begun(0, "a.pdf", 0.0).with_activity("downloading m 3 of 9 MiB")
    assert progress.line(state, 60, 0.0) == "────────────────  downloading m 3 of 9 MiB  a.pdf"


def test_long_paths_keep_their_end() -> None:
    state = Progress(1).begun(0, "scans/2024/invoices/march/total.pdf", 0.0)
    assert progress.line(state, 40, 0.0) == "────────────────  …ices/march/total.pdf"


@given(
    st.lists(st.tuples(st.text(max_size=40), st.integers(0, 50), st.none() | st.integers(1, 50)), max_size=4),
    st.integers(1, 200),
    st.text(max_size=30),
)
def test_no_line_is_wider_than_the_terminal(
    opened: list[tuple[str, int, int | None]], columns: int, activity: str
) -> None:
    state = Progress(len(opened)).with_activity(activity)
    for number, (name, done, total) in enumerate(opened):
        state = state.begun(number, name, number).page(number, done, total, number + 0.5)
    assert progress.width(progress.line(state, columns, 99.0)) < max(2, columns)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.floats(0.01, 50))
def test_the_end_is_estimated_exactly_where_all_is_known(sizes: list[int], seconds: float) -> None:
    """Documents of one length, read at an even rate."""
    size, now, state = sizes[0], 0.0, Progress(len(sizes))
    left = size * len(sizes)
    for number in range(len(sizes)):
        state = state.begun(number, "x", now).page(number, 0, size, now)
        for done in range(1, size + 1):
            now, left = now + seconds, left - 1
            state = state.page(number, done, size, now)
            if state.rate is not None:
                assert state.rate == pytest.approx(1 / seconds, rel=0.01)
                assert state.seconds_left() == pytest.approx(left * seconds, rel=0.01, abs=1e-6)
        state = state.closed(number, size, failed=False)
    assert (state.share, state.seconds_left() or 0.0) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("seconds", "says"), [(0, "0 s"), (59.4, "59 s"), (60, "1 m 0 s"), (3600, "1 h 0 m"), (9000, "2 h 30 m")]
)
def test_times(seconds: float, says: str) -> None:
    assert progress.duration(seconds) == says


def test_wide_characters_count_twice_and_accents_not_at_all() -> None:
    assert progress.width("発票.pdf") == 8
    assert progress.width("e\u0301") == 1
    assert progress.cut_left("発票発票", 5, "…") == "…発票"


def test_names_cant_control_a_terminal() -> None:
    assert progress.safe("a\x1b[2Jb\n\u202e.pdf") == "a?[2Jb??.pdf"
