"""What a run of measurements ends with: targets, ranges of earlier runs, and what can't be measured."""

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from bench import ranges, report, running
from bench.ranges import LEAST_RUNS
from bench.report import Result, Row


def measures(*rows: Row) -> Callable[[], Coroutine[Any, Any, Result]]:
    async def measure() -> Result:
        return Result("one", "", rows)

    return measure


async def lacking() -> Result:
    raise report.NotHere("no such engine")


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """A folder with the ranges of five runs, in which `a` was 1.0 to 1.2."""
    folder = tmp_path / "ranges"
    machine = ranges.machine_of(Result("one", "", ()))
    for value in (1.0, 1.05, 1.1, 1.15, 1.2):
        ranges.add("one", machine, [report.plain("a", value, "×")], "2026-12-01", folder)
    return folder


@pytest.mark.parametrize(("value", "status"), [(1.1, 0), (1.39, 0), (1.41, 1), (0.79, 1)])
def test_a_ratio_outside_of_its_range_is_status_1(
    tmp_path: Path, known: Path, capsys: pytest.CaptureFixture[str], value: float, status: int
) -> None:
    one = {"one": measures(report.plain("a", value, "×"))}
    assert running.run(one, results=tmp_path, known=known) == status
    assert ("OUTSIDE of 0.7999 to 1.4001" in capsys.readouterr().out) is bool(status)
    assert json.loads((tmp_path / "one.json").read_text())["rows"][0]["value"] == value


def test_a_run_that_is_added_is_not_held_to_the_range(tmp_path: Path, known: Path) -> None:
    one = {"one": measures(report.plain("a", 9.0, "×"))}
    assert running.run(one, adds=True, results=tmp_path, known=known) == 0
    assert len(ranges.read("one", known).runs) == LEAST_RUNS + 1


@pytest.mark.parametrize(("value", "status"), [(1.0, 0), (1.1, 1)])
def test_a_target_that_is_missed_is_status_1(tmp_path: Path, value: float, status: int) -> None:
    one = {"one": measures(report.at_most("a", value, "s", 1.0))}
    assert running.run(one, results=tmp_path, known=tmp_path) == status


@pytest.mark.parametrize(("required", "status"), [((), 0), (("one",), 1)])
def test_what_is_asked_for_and_not_here_is_status_1(
    tmp_path: Path, required: tuple[str, ...], status: int
) -> None:
    assert running.run({"one": lacking}, required=required, results=tmp_path, known=tmp_path) == status
