"""A figure is held to earlier runs of the same kind of machine, from five runs on."""

from pathlib import Path

import pytest

from bench import ranges, report
from bench.ranges import LEAST_RUNS, MOST_RUNS, Ranges

HERE = {"cpu": "this one", "cores": 2, "accelerator": "none"}
"""A kind of machine."""


def stored(folder: Path, *values: float) -> Ranges:
    for value in values:
        rows = [report.plain("a", value, "s"), report.plain("steady", 1.0, "s")]
        ranges.add("one", ranges.read("one", HERE, folder), rows, "2026-11-29", folder)
    return ranges.read("one", HERE, folder)


def test_a_figure_outside_of_five_runs_is_named_with_its_range(tmp_path: Path) -> None:
    known = stored(tmp_path, 1.0, 1.1, 1.2, 1.3, 1.4)
    assert known.range("a") == pytest.approx((0.8, 1.6), abs=1e-3)
    assert known.outside([report.plain("a", 1.59, "s"), report.plain("other", 9.0, "s")]) == {}
    assert list(known.outside([report.plain("a", 1.61, "s")])) == ["a"]
    assert list(known.outside([report.plain("a", 0.79, "s")])) == ["a"]


def test_what_has_no_spread_shows_any_change(tmp_path: Path) -> None:
    known = stored(tmp_path, *range(LEAST_RUNS))
    assert known.outside([report.plain("steady", 1.0, "s")]) == {}
    assert list(known.outside([report.plain("steady", 1.001, "s")])) == ["steady"]


def test_fewer_runs_and_other_machines_hold_nothing(tmp_path: Path) -> None:
    assert stored(tmp_path, 1.0, 1.0, 1.0, 1.0).range("a") is None
    assert stored(tmp_path, 1.0).range("a") is not None
    other = ranges.read("one", HERE | {"cores": 64}, tmp_path)
    assert other.runs == ()
    assert ranges.kind({**HERE, "kernel": "7"}, "H200") == HERE | {"accelerator": "H200"}


def test_the_newest_runs_are_kept(tmp_path: Path) -> None:
    known = stored(tmp_path, *(float(number) for number in range(MOST_RUNS + 3)))
    assert [run.figures["a"] for run in known.runs] == list(range(3, MOST_RUNS + 3))
