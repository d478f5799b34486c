"""A ratio is held to earlier runs, from five runs on, on any machine."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench import ranges, report
from bench.ranges import LEAST_RUNS, MOST_RUNS, UNITS, Ranges
from tests.support.paths import ROOT

HERE = {"cpu": "this one", "cores": 2, "accelerator": "none"}
"""A kind of machine."""


def stored(folder: Path, *values: float, machine: Mapping[str, object] = HERE) -> Ranges:
    for value in values:
        rows = [
            report.plain("a", value, "×"),
            report.plain("steady", 1.0, "×"),
            report.plain("s", value, "s"),
        ]
        ranges.add("one", machine, rows, "2026-11-29", folder)
    return ranges.read("one", folder)


def test_a_ratio_outside_of_five_runs_is_named_with_its_range(tmp_path: Path) -> None:
    known = stored(tmp_path, 1.0, 1.1, 1.2, 1.3, 1.4)
    assert known.range("a") == pytest.approx((0.6, 1.8), abs=1e-3)
    assert known.outside([report.plain("a", 1.79, "×"), report.plain("other", 9.0, "×")]) == {}
    assert list(known.outside([report.plain("a", 1.81, "×")])) == ["a"]
    assert list(known.outside([report.plain("a", 0.59, "×")])) == ["a"]


def test_what_has_no_spread_shows_any_change(tmp_path: Path) -> None:
    known = stored(tmp_path, *range(LEAST_RUNS))
    assert known.outside([report.plain("steady", 1.0, "×")]) == {}
    assert list(known.outside([report.plain("steady", 1.001, "×")])) == ["steady"]


def test_a_small_spread_leaves_two_percent(tmp_path: Path) -> None:
    known = stored(tmp_path, 2.0, 2.001, 2.0, 2.0, 2.0)
    assert known.range("a") == pytest.approx((1.96, 2.041), abs=1e-3)


def test_seconds_are_not_kept(tmp_path: Path) -> None:
    known = stored(tmp_path, *range(LEAST_RUNS))
    assert all(set(run.figures) == {"a", "steady"} for run in known.runs)
    assert known.outside([report.plain("a", 99.0, "s")]) == {}


def test_fewer_runs_hold_nothing(tmp_path: Path) -> None:
    assert stored(tmp_path, 1.0, 1.0, 1.0, 1.0).range("a") is None
    assert stored(tmp_path, 1.0).range("a") is not None
    assert ranges.read("two", tmp_path).outside([report.plain("a", 1.0, "×")]) == {}


def test_runs_of_another_kind_of_machine_begin_anew(tmp_path: Path) -> None:
    assert len(stored(tmp_path, 1.0, 1.0).runs) == 2
    assert len(stored(tmp_path, 1.0, machine=HERE | {"cores": 64}).runs) == 1
    assert ranges.kind({**HERE, "kernel": "7"}, "H200") == HERE | {"accelerator": "H200"}


def test_the_newest_runs_are_kept(tmp_path: Path) -> None:
    known = stored(tmp_path, *(float(number) for number in range(MOST_RUNS + 3)))
    assert [run.figures["a"] for run in known.runs] == list(range(3, MOST_RUNS + 3))


STORED = sorted((ROOT / "bench/ranges").glob("*.json"))


@pytest.mark.parametrize("path", STORED, ids=[path.stem for path in STORED])
def test_stored_ranges_hold_the_stored_result(path: Path) -> None:
    known = ranges.read(path.stem)
    rows = [
        report.Row(**row)
        for row in json.loads((ROOT / f"bench/results/{path.stem}.json").read_text())["rows"]
    ]
    ratios = [row for row in rows if row.unit in UNITS]
    assert ratios, "nothing is held to it"
    assert all(known.range(row.what) is not None for row in ratios)
    assert known.outside(rows) == {}
