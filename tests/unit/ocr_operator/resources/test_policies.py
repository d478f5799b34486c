"""Reading policies, and what they select."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.resources import policies
from tests.support.resources import make_policy, make_policy_body

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({}, True),
        ({"matchLabels": {"team": "billing"}}, True),
        ({"matchLabels": {"team": "forms"}}, False),
        ({"matchLabels": {"team": "billing", "tier": "gold"}}, False),
        ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["billing", "forms"]}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["gold"]}]}, False),
        ({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["billing"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["gold"]}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}, False),
        (
            {
                "matchLabels": {"team": "billing"},
                "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}],
            },
            True,
        ),
    ],
)
def test_selector_is_that_of_kubernetes(selector: dict[str, Any], selected: bool) -> None:
    labels = {"team": "billing"}
    assert make_policy(selector=selector).selects(labels, {}) is selected
    assert make_policy(namespaceSelector=selector).selects({}, labels) is selected


def test_both_selectors_must_hold() -> None:
    policy = make_policy(selector={"matchLabels": {"a": "1"}}, namespaceSelector={"matchLabels": {"b": "2"}})
    assert policy.selects({"a": "1"}, {"b": "2"})
    assert not policy.selects({"a": "1"}, {})
    assert not policy.selects({}, {"b": "2"})


def test_unknown_time_zone_is_named_and_nothing_is_selected() -> None:
    window = {"start": "08:00", "end": "18:00", "timeZone": "Mars/Base"}
    policy = make_policy(windows=[{**window, "timeZone": "UTC"}, window], idle={"offloadAfterSeconds": 5})
    assert policy.rejection is not None
    assert policy.rejection.reason == "UnknownTimeZone"
    assert policy.rejection.message.startswith("spec.windows[1].timeZone: 'Mars/Base' is no time zone")
    assert not policy.selects({}, {})
    assert not policy.active(NOON)


def test_policy_without_windows_is_always_active() -> None:
    assert make_policy().active(NOON)
    assert make_policy(windows=[{"start": "11:00", "end": "13:00"}]).active(NOON)
    assert not make_policy(windows=[{"start": "13:00", "end": "14:00"}]).active(NOON)


def test_a_new_status_says_the_same() -> None:
    body = make_policy_body(priority=1)
    before = policies.parse(body)
    after = policies.parse(body | {"status": {"matched": 3}})
    assert before.says_the_same(after)
    assert before != after
    body["metadata"]["generation"] = 2
    assert not before.says_the_same(policies.parse(body))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
FIELDS = st.sampled_from(["selector", "priority", "mode", "windows", "models", "idle", "logLevel", "routing"])


@given(JSON | st.dictionaries(FIELDS, JSON), JSON)
def test_any_body_will_do(spec: Any, meta: Any) -> None:
    policy = policies.parse({"metadata": meta, "spec": spec})
    if policy.rejection is not None:
        assert policy.rejection.message
        assert not policy.selects({}, {})


def test_deep_nesting_is_no_crash() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"idle": deep}
    assert (
        policies.parse({"metadata": {"name": "deep"}, "spec": {"selector": {"matchLabels": deep}}}).rejection
        is not None
    )
