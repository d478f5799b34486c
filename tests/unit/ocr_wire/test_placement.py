"""The annotations of a placed pod, which anybody with access to pods can edit."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_wire import placement
from ocr_wire.checked import Invalid
from ocr_wire.placement import Gpu, Record

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def test_record_survives_the_annotation() -> None:
    record = Record(
        node="gpu-a", gpus=(Gpu(uuid="GPU-1", product="L4"),), memory_bytes=1, placed_at=placement.at(NOW)
    )
    assert placement.read(record.to_json()) == record
    assert record.time == NOW


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[" * 10_000, "\ud800", '{"node": 3}', '{"gpus": [3]}'], ids=repr
)
def test_what_is_no_record_says_why(text: str) -> None:
    assert isinstance(placement.read(text), Invalid)


def test_a_time_that_is_none_leaves_the_rest() -> None:
    found = placement.read('{"node": "gpu-a", "placedAt": "yesterday"}')
    assert isinstance(found, Record)
    assert (found.node, found.time) == ("gpu-a", None)
    assert Record(placed_at="2026-11-23T08:00:00").time is None, "no time zone"


@given(st.recursive(st.none() | st.floats() | st.integers() | st.text(max_size=5), st.lists, max_leaves=4))
def test_reading_never_raises(value: Any) -> None:
    for body in ({"score": value}, {"gpus": value}, {"memoryBytes": value}, value):
        assert isinstance(placement.read(json.dumps(body)), Record | Invalid)


@pytest.mark.parametrize(
    ("listed", "uuids"),
    [
        ("", ()),
        ("GPU-b,GPU-a,GPU-a", ("GPU-a", "GPU-b")),
        ("all,GPU-a,void,MIG-a/1/2", ("GPU-a", "MIG-a/1/2")),
        ("GPU-a\n,GPU-b;x", ("GPU-a",)),
        (
            ",".join(f"GPU-{number:02}" for number in range(20)),
            tuple(f"GPU-{number:02}" for number in range(16)),
        ),
    ],
)
def test_uuids_are_those_that_can_be_ones(listed: str, uuids: tuple[str, ...]) -> None:
    assert placement.uuids(listed) == uuids


def test_uuids_survive_the_annotation() -> None:
    gpus = (Gpu(uuid="GPU-b"), Gpu(uuid="GPU-a"))
    assert placement.listed(gpus) == "GPU-b,GPU-a"
    assert placement.uuids(placement.listed(gpus)) == ("GPU-a", "GPU-b")
