"""The limits in the documentation are those of the code."""

import re

from ocr_inference.workers import limits
from tests.support.paths import ROOT


def test_each_limit_is_documented_with_its_value() -> None:
    text = (ROOT / "docs" / "lifecycle.md").read_text()
    section = text.partition("### Limits")[2].partition("\n### ")[0]
    rows = dict(
        re.findall(
            r"^\| (?:after a report of |of )?`?([a-z ,]+?)`?(?:, until.*?)? \| (.*?) \|",
            section,
            re.MULTILINE,
        )
    )
    spans = {name: re.findall(r"(\d+) (?:s|MiB)\b", value) for name, value in rows.items()}
    assert spans.pop("the first one of a process") == [f"{limits.LIMITS.start:g}"]
    assert spans.pop("restore, offload, unload") == [
        f"{limits.LIMITS.move:g}",
        "1",
        f"{limits.BYTES_PER_SECOND >> 20}",
    ]
    assert spans.pop("exit") == [f"{limits.EXIT_SECONDS:g}"]
    assert {name: value for name, value in spans.items() if value} == {
        phase: [f"{seconds:g}"] for phase, seconds in limits.LIMITS.phases.items()
    }
    assert f"after {limits.LIMITS.survive:g} s the state" in section
    assert f"after {limits.LIMITS.hopeless:g} s `/livez`" in section
