"""A live override among the layers, its end, and what becomes of one that makes no sense."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.resources import effective, live_override, live_settings
from ocr_operator.resources.effective import Effective
from ocr_operator.resources.live_override import LiveOverride
from ocr_operator.resources.policies import Policy
from ocr_operator.resources.spec import OcrDeployment
from ocr_wire import names
from ocr_wire.live_override import stamp
from tests.support import resources
from tests.support.resources import make_deployment, make_policy

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
OFFLOAD = "idle.offloadAfterSeconds"


def body(text: str) -> dict[str, Any]:
    return {"metadata": {"annotations": {names.ANNOTATION_LIVE_OVERRIDE: text}}}


def override(until: datetime | None = None, **values: Any) -> LiveOverride:
    end = {"until": stamp(until)} if until else {}
    found = live_override.of(body(json.dumps({"values": values, **end})), ["pp-ocr"])
    assert found is not None
    return found


def merged(
    resource: OcrDeployment, found: LiveOverride | None, *policies: Policy, now: datetime = NOON
) -> Effective:
    return effective.of(resource, policies, now, found)


def reported(settings: Effective, field: str = OFFLOAD) -> tuple[str, str]:
    [found] = [each for each in settings.sources if each.field == field]
    return found.value, found.origin


SHORT = {"offloadAfterSeconds": 5}
LONG = {"offloadAfterSeconds": 900}


def test_it_wins_over_the_spec_and_over_defaults_and_leaves_the_rest() -> None:
    resource = make_deployment(idle={**LONG, "exitAfterSeconds": 7})
    settings = merged(resource, override(idle=SHORT), make_policy("saver", queue={"limit": 9}))
    assert reported(settings) == ("5", "override")
    assert reported(settings, "idle.exitAfterSeconds") == ("7", "spec")
    assert reported(settings, "queue.limit") == ("9", "OcrIdlePolicy/saver")
    assert reported(settings, "logLevel") == ("info", "default")


def test_limits_that_nobody_gets_around_stay() -> None:
    settings = merged(make_deployment(), override(idle=LONG), make_policy("cap", mode="override", idle=SHORT))
    assert reported(settings) == ("5", "OcrIdlePolicy/cap")
    weak = merged(make_deployment(), override(idle=SHORT), make_policy("weak", idle=LONG))
    assert reported(weak) == ("5", "override")
    assert weak.policy_usage.losers == {"weak"}


def test_what_it_says_of_all_models_counts_before_a_models_own_timeout_in_the_spec() -> None:
    resource = make_deployment(models=[{**resources.RAPIDOCR, "idle": LONG}])
    of_all = live_settings.values(merged(resource, override(idle=SHORT)).spec)
    assert of_all["models"]["pp-ocr"]["idle"]["offloadAfterSeconds"] == 5
    both = override(idle=SHORT, models=[{"name": "pp-ocr", "idle": {"offloadAfterSeconds": 6}}])
    of_one = live_settings.values(merged(resource, both).spec)
    assert of_one["models"]["pp-ocr"]["idle"]["offloadAfterSeconds"] == 6


@given(st.integers(0, 86_400), st.integers(0, 86_400))
def test_it_counts_until_its_end_and_not_a_moment_longer(end: int, at: int) -> None:
    start = NOON
    now = start + timedelta(seconds=at)
    found = override(start + timedelta(seconds=end), idle=SHORT)
    assert found.ended(now) is (at >= end)
    assert reported(merged(make_deployment(), found, now=now))[1] == ("default" if at >= end else "override")
    assert found.seconds_left(now) == (end - at if at < end else None)


def test_without_an_end_it_counts_until_it_is_removed() -> None:
    found = override(idle=SHORT)
    assert not found.ended(NOON + 10_000 * HOUR)
    assert found.seconds_left(NOON) is None
    assert live_override.of({"metadata": {}}, ["pp-ocr"]) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "is not valid JSON"),
        ('{"values": {"idle": {"offloadAfterSeconds": -7}}}', "values.idle.offloadAfterSeconds: expected"),
        (
            '{"values": {"models": [{"name": "ppocr", "preload": true}]}}',
            "values.models: the resource has no model 'ppocr'; it has pp-ocr",
        ),
        ("x" * 200_000, "has 200000 bytes"),
    ],
)
def test_one_that_makes_no_sense_changes_nothing_and_says_why(text: str, said: str) -> None:
    found = live_override.of(body(text), ["pp-ocr"])
    assert found is not None
    assert said in found.rejection
    assert len(found.rejection) <= live_override.MAX_REJECTION
    resource = make_deployment(idle=LONG)
    assert merged(resource, found).spec == resource.spec


@pytest.mark.parametrize(
    "metadata", [{"annotations": None}, {"annotations": {names.ANNOTATION_LIVE_OVERRIDE: 5}}, {}]
)
def test_odd_metadata_is_no_override(metadata: Any) -> None:
    assert live_override.of({"metadata": metadata}, []) is None
