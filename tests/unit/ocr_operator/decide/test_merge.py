"""Laying a partial manifest over a whole one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide import merge


@pytest.mark.parametrize(
    ("base", "patch", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}),
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({}, {"a": {"b": None, "c": 1}}, {"a": {"c": 1}}),
        ({"args": ["a"]}, {"args": ["b"]}, {"args": ["b"]}),
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"env": [{"name": "C", "value": "3"}, {"name": "A", "value": "4"}]},
            {"env": [{"name": "A", "value": "4"}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}]},
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"fieldRef": {}}}]},
            {"env": [{"name": "A", "value": "1"}]},
            {"env": [{"name": "A", "value": "1"}]},
        ),
        (
            {"volumes": [{"name": "tmp", "emptyDir": {}}]},
            {"volumes": [{"name": "tmp", "hostPath": {"path": "/tmp"}}]},
            {"volumes": [{"name": "tmp", "hostPath": {"path": "/tmp"}}]},
        ),
        (
            {"ports": [{"containerPort": 80, "protocol": "TCP"}]},
            {"ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 80, "protocol": "UDP"}]},
            {
                "ports": [
                    {"containerPort": 80, "protocol": "TCP", "name": "http"},
                    {"containerPort": 80, "protocol": "UDP"},
                ]
            },
        ),
        (
            {"tolerations": [{"key": "a"}]},
            {"tolerations": [{"key": "b"}]},
            {"tolerations": [{"key": "a"}, {"key": "b"}]},
        ),
        ({"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "a"}]}),
        ({"a": {"b": 1}}, {"a": "text"}, {"a": "text"}),
        ({"containers": [{"name": "a"}]}, {"containers": ["odd"]}, {"containers": [{"name": "a"}, "odd"]}),
    ],
)
def test_overlay(base: Any, patch: Any, merged: Any) -> None:
    assert merge.overlay(base, patch) == merged


VALUES = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "env", "tolerations", "args", "port"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(VALUES, VALUES)
def test_overlay_twice_is_overlay_once(base: Any, patch: Any) -> None:
    once = merge.overlay({"env": base}, {"env": patch})
    assert merge.overlay(once, {"env": patch}) == once


def test_items_without_identity() -> None:
    assert merge.identity("env", {"value": "x"}) is None
    assert merge.identity("env", "x") is None
    assert merge.identity("args", {"name": "x"}) is None
    assert merge.identity("ports", {"protocol": "TCP"}) is None
