"""How often an awake set that changes all day is told by an Event."""

from ocr_operator.controllers.reports import MAX_MOVES, MOVES_BURST, MOVES_SPACING_SECONDS, Report


def test_the_first_changes_are_told_at_once_and_later_ones_together() -> None:
    report = Report()
    for each in range(MOVES_BURST):
        report.moved((f"move {each}",))
        assert report.take_moves(float(each)) == [f"move {each}"]
    report.moved(("held", "back"))
    assert report.take_moves(100.0) == []
    report.moved(("too",))
    assert report.take_moves(MOVES_BURST * MOVES_SPACING_SECONDS) == ["held", "back", "too"]


def test_in_the_long_run_there_is_one_in_two_minutes() -> None:
    report, reported, hours = Report(), 0, 6
    for second in range(hours * 3600):
        report.moved(("a move",))
        reported += bool(report.take_moves(float(second)))
    assert reported <= hours * 3600 / MOVES_SPACING_SECONDS + MOVES_BURST


def test_no_change_is_no_event_and_memory_is_bounded() -> None:
    report = Report()
    assert report.take_moves(0.0) == []
    for each in range(2 * MAX_MOVES):
        report.moved((f"move {each}",))
    moves = report.take_moves(0.0)
    assert len(moves) == MAX_MOVES
    assert moves[-1] == f"move {2 * MAX_MOVES - 1}"
