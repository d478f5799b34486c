"""Pages for whoever is on call say what there is: alerts, metrics, reasons. `tests/cluster` runs their commands."""

import re
from pathlib import Path

import pytest
import yaml

from ocr_inference.scheduling import outcomes
from ocr_operator.decide.placement import NoFitReason
from ocr_wire import states
from tests.support.paths import ROOT

RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
PAGES = [*RUNBOOKS, *(ROOT / "docs" / f"{name}.md" for name in ("operations", "gpu-clusters"))]
ALERTS = ROOT / "charts" / "ocr-operator" / "monitoring" / "alerts.yaml"


def text(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def first_words(page: str, header: str) -> set[str]:
    """The words in code of the first column of a table."""
    rows = text(page).split(f"\n| {header} |", 1)[1].split("\n\n")[0].splitlines()[2:]
    return {word for row in rows for word in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    alerts = {rule["annotations"]["runbook"]: rule["alert"] for group in groups for rule in group["rules"]}
    assert {path.stem for path in RUNBOOKS} == set(alerts)
    for path in RUNBOOKS:
        page = path.read_text(encoding="utf-8")
        assert f"\nAlert `{alerts[path.stem]}`: " in page
        assert re.findall(r"^## (.+)$", page, re.MULTILINE) == ["What it means", "See it", "What to do"]
        see, do = page.split("\n## See it\n")[1].split("\n## What to do\n")
        assert "$ kubectl " in see
        assert "$ kubectl " in do


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_metrics_that_a_page_names_are_documented(path: Path) -> None:
    known = set(re.findall(r"`(ocr_\w+)`", text("metrics.md") + text("metrics-server.md")))
    named = set(re.findall(r"\bocr_(?:model|operator|device|queue)_\w+", path.read_text(encoding="utf-8")))
    assert named <= known


def test_reasons_of_the_runbooks_are_those_of_the_programs() -> None:
    failures = first_words("runbooks/model-stuck-loading.md", "`lastFailure.reason`")
    assert failures == {*outcomes.REASONS.values(), states.ENGINE_MISSING}
    no_fit = first_words("runbooks/no-fit.md", "reason")
    assert no_fit >= {each.value for each in NoFitReason if each.value != "NoNodes"}
    assert no_fit <= set(re.findall(r"`(\w+)`", text("status.md")))
