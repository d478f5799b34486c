import signal
from pathlib import Path

import pytest

from ocr_inference.workers.forked import exit_code


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        ("Z", 0, 0),
        ("Z", 70 << 8, 70),
        ("Z", signal.SIGABRT | 0x80, -signal.SIGABRT),
        ("S", 0, -signal.SIGKILL),
    ],
)
def test_the_exit_code_of_a_process_that_nothing_collected(
    tmp_path: Path, state: str, status: int, expected: int
) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(f"7 (model) (a) ) {state} 1 7 7 0 {status}\n")
    assert exit_code(7, tmp_path) == expected


@pytest.mark.parametrize("text", [None, "", "7 (a) Z", "7 (a) Z 1 many"])
def test_what_the_system_does_not_say_counts_as_killed(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "7").mkdir()
    if text is not None:
        (tmp_path / "7" / "stat").write_text(text)
    assert exit_code(7, tmp_path) == -signal.SIGKILL
