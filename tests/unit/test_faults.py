"""The page of faults names tests that are there."""

import re

from tests.support.paths import DOCS, ROOT


def test_every_fault_names_a_test_that_is_there() -> None:
    text = (DOCS / "faults.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    files: dict[str, str] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        files[path.name] = files.get(path.name, "") + path.read_text(encoding="utf-8")
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in files.get(file, "")]
    assert not missing
    assert len(named) > 30
