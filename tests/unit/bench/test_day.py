"""A replayed day: its costs are rows of stored results, and what it says follows from the order of things."""

import pytest

from bench import day
from bench.day import SOURCES, Played, Source

TRACE = [each for each in day.arrivals() if each[0] < day.DAY / 2]
"""A morning of the day."""


@pytest.fixture(scope="module")
def played() -> dict[str, Played]:
    return {each.name: day.play(each, TRACE) for each in day.strategies(day.measured())}


@pytest.mark.parametrize("name", SOURCES)
def test_each_cost_is_a_row_of_a_stored_result(name: str) -> None:
    assert SOURCES[name].value() > 0


def test_a_row_that_is_not_there_is_named() -> None:
    with pytest.raises(LookupError, match="no row 'nothing'"):
        Source("wake", "nothing").value()


def test_the_trace_is_the_same_for_a_seed_and_of_all_services() -> None:
    assert day.arrivals(1) == day.arrivals(1) != day.arrivals(2)
    assert {service for _, service in day.arrivals()} == set(range(day.SERVICES))
    assert sorted(day.arrivals()) == day.arrivals()


def test_what_sleeps_sooner_holds_less_and_more_requests_are_late(played: dict[str, Played]) -> None:
    always = played["always on"]
    ours = [played[f"ours, offloadAfterSeconds {seconds}"] for seconds in (0, 15, 60, 300, 900)]
    held = [each.held_seconds for each in ours]
    assert held == sorted(held)
    assert always.held_seconds == pytest.approx(day.SERVICES * day.DAY)
    late = [day.late(each, always, day.LATE[0]) for each in ours]
    assert late == sorted(late, reverse=True)
    assert day.late(always, always, 0.0) == 0.0


def test_models_make_way_so_nobody_waits_for_anothers_timer(played: dict[str, Played]) -> None:
    ours, sleepers = played["ours, offloadAfterSeconds 300"], played["vLLM sleep after 300 s"]
    assert ours.moves > 0
    assert max(ours.latencies.values()) < 60 < max(sleepers.latencies.values())


def test_the_plot_names_each_strategy_and_nothing_lies_outside(played: dict[str, Played]) -> None:
    drawn = day.plot(played)
    assert all(name in drawn for name in played)
    assert drawn.count("<circle") == len(played)


def test_a_day_is_played_the_same_each_time(played: dict[str, Played]) -> None:
    strategy = day.strategies(day.measured())[-1]
    assert day.play(strategy, TRACE) == played[strategy.name]
