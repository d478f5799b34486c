"""What is decoded of deep objects: brackets count, but not those in strings."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ocr_operator.kube import api, decoding
from ocr_operator.resources import observed

VALUES = st.recursive(
    st.none() | st.text('{}[]"\\\\a', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("{}[]", max_size=3), inner, max_size=3)
    ),
    max_leaves=30,
)


def cut(value: Any, levels: int) -> Any:
    """The value with null in the place of everything that lies deeper."""
    if not isinstance(value, list | dict):
        return value
    if levels == 0:
        return None
    if isinstance(value, list):
        return [cut(each, levels - 1) for each in value]
    return {key: cut(each, levels - 1) for key, each in value.items()}


def hidden(levels: int) -> Any:
    """Levels whose brackets are in balance with those of strings, before their end."""
    return {"a": "}", "b": hidden(levels - 1), "c": "{"} if levels else None


@example(hidden(10), 4)
@given(VALUES, st.integers(1, 8))
def test_what_lies_deeper_is_null_and_nothing_else_is_changed(value: Any, levels: int) -> None:
    raw = json.dumps(value).encode()
    assert json.loads(decoding.shallow(raw, levels)) == cut(value, levels)


def pod_event(**parts: Any) -> bytes:
    item = {"metadata": {"name": "a", "namespace": "b", "uid": "u"}, "spec": {}, "status": {}}
    item = {name: value | parts.get(name, {}) for name, value in item.items()}
    return json.dumps({"type": "MODIFIED", "object": item}).encode()


def test_pod_of_many_levels_is_read_without_the_deep_ones() -> None:
    deep = json.dumps([]).encode()
    for _ in range(5_000):
        deep = b"[" + deep + b"]"
    raw = pod_event(metadata={"managedFields": "DEEP"}).replace(b'"DEEP"', deep)

    found, item = decoding.event(raw, shape=api.POD.shape)

    assert (found, item["metadata"]["uid"]) == ("MODIFIED", "u")


def test_pod_with_a_field_of_another_type_is_read_without_that_field() -> None:
    odd = {
        "nodeName": "n",
        "containers": [{"ports": [{"hostPort": None}]}],
        "nodeSelector": [],
        "volumes": [None],
    }

    _, item = decoding.event(pod_event(spec=odd), shape=api.POD.shape)
    [listed], _, _ = decoding.page(
        json.dumps({"metadata": {}, "items": [json.loads(pod_event(spec=odd))["object"]]}).encode(),
        shape=api.POD.shape,
    )

    assert observed.pod(item) == observed.pod(listed)
    assert (observed.pod(item).node, observed.pod(item).node_selector) == ("n", {})


@pytest.mark.parametrize("half", ['"\\ud800"', '"\\udfff\\ud800"', '"\\ud83dx"'])
def test_half_of_a_character_is_not_read(half: str) -> None:
    """No API server sends one (tests/cluster/test_crd.py), and nothing here could write it again."""
    with pytest.raises(decoding.Unreadable):
        decoding.document(f'{{"a": {half}}}'.encode())
