"""How many connections a limit of open files allows."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.connections import files, limits


@pytest.mark.parametrize(
    ("open_files", "models", "ordinary"), [(256, 1, 60), (1024, 1, 444), (1024, 8, 332), (1 << 20, 1, 2048)]
)
def test_connections_follow_from_the_open_files(open_files: int, models: int, ordinary: int) -> None:
    assert limits.of(open_files, models).ordinary == ordinary


def test_the_example_of_the_documentation_is_right() -> None:
    said = (Path(__file__).parents[4] / "docs/server-settings.md").read_text(encoding="utf-8")
    bounds = limits.of(1024, 1)
    assert f"1,024 files are {bounds.ordinary} requests with one model" in said
    assert bounds.arrivals == limits.FEWEST
    assert f"{limits.MOST_ARRIVALS:,}, or what open files leave of them, {limits.FEWEST} at least" in said


def test_the_setting_wins_where_the_files_allow_it() -> None:
    assert limits.of(1024, 1, most=10).ordinary == 10
    assert limits.of(1 << 16, 1, most=5000).ordinary == 5000
    with pytest.raises(limits.TooFewFiles, match="1024 files, and 5000 connections need 10136: raise"):
        limits.of(1024, 1, most=5000)


def test_too_few_files_for_any_server_are_an_error() -> None:
    with pytest.raises(limits.TooFewFiles, match="64 files"):
        limits.of(64, 1)


@given(st.integers(0, 1 << 16), st.integers(1, 8), st.none() | st.integers(8, 30_000))
def test_sockets_and_the_pages_of_all_requests_fit(open_files: int, models: int, most: int | None) -> None:
    try:
        bounds = limits.of(open_files, models, most)
    except limits.TooFewFiles:
        return
    assert limits.FEWEST <= bounds.ordinary < bounds.looks < bounds.total
    assert bounds.arrivals >= limits.FEWEST
    assert 2 * bounds.total + bounds.arrivals + 64 + 32 * models <= open_files


def test_the_soft_limit_is_raised_once() -> None:
    assert files.open_files() == files.open_files() <= files.USEFUL_FILES
