"""The annotation that says why a pod is awake or asleep, which anybody with access to pods can edit."""

from datetime import UTC, datetime

import pytest

from ocr_wire import routing
from ocr_wire.checked import Invalid
from ocr_wire.placement import at
from ocr_wire.routing import Record

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def test_record_survives_the_annotation() -> None:
    record = Record(awake=True, since=at(NOW), why="4 requests wait")
    assert routing.read(record.to_json()) == record
    assert record.time == NOW


@pytest.mark.parametrize("text", ["", "{", "null", "[" * 10_000, '{"awake": 3}', '{"why": []}', " " * 20_000])
def test_what_is_no_record_says_why(text: str) -> None:
    assert isinstance(routing.read(text), Invalid)


def test_fields_of_a_newer_operator_and_a_time_that_is_none_leave_the_rest() -> None:
    found = routing.read('{"awake": false, "since": "yesterday", "queue": {"waiting": 3}, "why": "calm"}')
    assert isinstance(found, Record)
    assert (found.awake, found.why, found.time) == (False, "calm", None)
    assert routing.read("{}") == Record()
