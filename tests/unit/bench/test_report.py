"""How results are named, and how they say that they are measured again."""

import json
from pathlib import Path
from typing import get_args

import pytest

from bench import report
from bench.ranges import UNITS
from bench.report import Result

USUAL = Result("scale", "", ())
OTHER = Result("scale", "", (), variant="5000-pods")
ON_GPU = Result("wake", "", (), accelerator="H200")


def test_results_of_another_size_or_machine_stand_beside_the_usual_one() -> None:
    assert [report.name_of(each) for each in (USUAL, OTHER, ON_GPU)] == [
        "scale",
        "scale-5000-pods",
        "wake-gpu",
    ]


def test_the_command_has_the_settings_of_the_run() -> None:
    environ = {"HOME": "/home/me", "BENCH_SCALE_SECONDS": "1700", "BENCH_SCALE_PODS": "5000"}
    assert report.command(USUAL, {}) == "make bench ONLY=scale"
    assert report.command(ON_GPU, {}) == "make bench-gpu"
    assert (
        report.command(OTHER, environ)
        == "BENCH_SCALE_PODS=5000 BENCH_SCALE_SECONDS=1700 make bench ONLY=scale"
    )


RESULTS = sorted(report.RESULTS.glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=[path.stem for path in RESULTS])
def test_stored_figures_count_in_units_that_benches_have(path: Path) -> None:
    """So that no ratio is left out of the ranges for the sake of another word for the same unit."""
    rows = json.loads(path.read_text())["rows"]
    assert {row["unit"] for row in rows} <= set(get_args(report.Unit))
    assert all(row["target"].endswith(row["unit"]) for row in rows if row["target"] and row["unit"] in UNITS)
