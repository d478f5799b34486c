"""No change of a definition locks resources that a released one admitted (docs/upgrades.md)."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from ocr_wire import names
from tests.support import definition_locks, resources
from tests.support.paths import ROOT

RELEASED = sorted((ROOT / "tests" / "frozen").glob("v*/chart/files/*.yaml"))


def schema_of(path: Path) -> dict[str, Any]:
    [version] = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def test_both_definitions_were_released() -> None:
    assert {path.stem for path in RELEASED} == {names.PLURAL, names.POLICY_PLURAL}


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: f"{path.parents[2].name}-{path.stem}")
def test_stored_resources_can_still_be_scaled_and_reported_on(path: Path) -> None:
    """A rule or a required field that `spec` as a whole has anew would refuse `kubectl scale` of what is stored. Put a
    rule at the part that it is about, or let the operator say it: `Stalled`.
    """
    assert definition_locks.locking(schema_of(path), resources.crd_schema(path.stem)) == []


def test_each_stricter_part_of_a_status_is_found() -> None:
    """An older operator would write it in vain."""
    now = resources.crd_schema()
    older = copy.deepcopy(now)
    status = older["properties"]["status"]["properties"]
    del status["conditions"]["items"]["required"]
    condition = status["conditions"]["items"]["properties"]["status"]
    condition["enum"] = [*condition["enum"], "Retired"]
    status["pods"]["maxItems"] += 1
    found = definition_locks.locking(older, now)
    places = {each.partition(" ")[0] for each in found}
    assert places == {"status.conditions[]", "status.conditions[].status", "status.pods"}
    assert definition_locks.locking(now, older) == [], "what is looser locks nothing"
