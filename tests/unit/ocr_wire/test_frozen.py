"""What released versions said is read for ever, and what newer ones may say is read, too."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ocr_wire import errors, live_settings, placement, state
from ocr_wire.checked import Invalid
from ocr_wire.live_settings import Envelope, Received
from ocr_wire.placement import Record
from ocr_wire.state import PodState
from ocr_wire.text import Time
from tests.support import documents

STATES = documents.frozen("state-*.json")
PLACEMENTS = documents.frozen("placement-*.json")
SETTINGS = documents.frozen("live-settings*.json")
ERRORS = documents.frozen("error*.json")

NEEDED = {
    "pod", "pod.name", "device", "device.kind", "models", "models.name", "models.state", "models.location",
    "device.gpu.memory_used_bytes", "device.gpu.memory_total_bytes", "models.last_failure.reason",
    "models.progress.phase", *(f"models.waits_for.{each}" for each in ("needed_bytes", "free_bytes", "since")),
}  # fmt: skip
"""What no state of any version goes without. Nothing can be added here: older servers don't write it."""

by_name = pytest.mark.parametrize("path", STATES, ids=lambda path: path.stem)


def read(document: Any) -> PodState:
    found = state.parse(json.dumps(document))
    assert isinstance(found, PodState), found
    assert state.parse(document) == found, "the same from the decoded value"
    return found


def test_every_kind_of_document_is_frozen() -> None:
    assert len(STATES) >= 7
    assert PLACEMENTS
    assert SETTINGS
    assert ERRORS


def test_the_fullest_state_has_every_field() -> None:
    """Otherwise the tests below would miss a field that only some states have."""
    found = {
        ".".join(str(key) for key in place if isinstance(key, str))
        for path in STATES
        for place in documents.places(documents.load(path))
        if "values" not in place[:-1]
    }
    missing = set()
    for part, at in (
        (PodState, ""), (state.Identity, "pod."), (state.Device, "device."), (state.WholeGpu, "device.gpu."),
        (state.Model, "models."), (state.Failure, "models.last_failure."), (state.Progress, "models.progress."),
        (state.WaitsFor, "models.waits_for."), (state.Queue, "queue."), (Envelope, "settings."),
    ):  # fmt: skip
        missing |= {f"{at}{name}" for name in part.__struct_encode_fields__} - found
    newer = {"models.oldest_lease_since", "models.stuck_since", "models.image_failure"}
    newer |= {"models.packed_bytes", "models.offloads", "models.idle", "models.preloaded", "local_timeouts"}
    newer |= {"models.shared_bytes"}
    assert missing == {"settings.ignored", *newer}, "newer than the version that the states are of"


@by_name
def test_a_state_is_read_as_it_was_meant(path: Path) -> None:
    """Field by field: what was written is what is found."""
    document = documents.load(path)
    found = msgspec.to_builtins(read(document))
    for place in documents.places(document):
        if "values" in place:
            continue
        was, now = document, found
        for key in place:
            was, now = was[key], now[key]
        if isinstance(was, dict | list):
            continue
        if isinstance(was, str) and was.endswith("Z") and now is not None:
            assert msgspec.convert(was, Time) == msgspec.convert(now, Time), place
        else:
            assert now == was, place


@by_name
def test_a_newer_server_s_fields_are_ignored(path: Path) -> None:
    document = documents.load(path)
    assert read(documents.newer(document)) == read(document)


@by_name
def test_an_optional_field_that_is_missing_costs_nothing_else(path: Path) -> None:
    document = documents.load(path)
    for place in documents.places(document):
        if "values" in place:
            continue
        dotted = ".".join(key for key in place if isinstance(key, str))
        found = state.parse(json.dumps(documents.without(document, place)))
        if dotted in NEEDED:
            assert isinstance(found, Invalid), dotted
            assert str(place[-1]) in str(found), "the message names the field"
        else:
            assert isinstance(found, PodState), (dotted, found)
            assert found.pod.name == document["pod"]["name"]
            assert len(found.models) == len(document["models"])


@by_name
def test_what_is_written_again_is_read_the_same(path: Path) -> None:
    """The server writes the same type: encoding loses nothing."""
    found = read(documents.load(path))
    assert state.parse(state.encode(found)) == found


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_live_settings_are_read_and_hash_as_before(path: Path) -> None:
    document = documents.load(path)
    models = tuple(document["values"]["models"])
    told = live_settings.parse(path.read_text(), models)
    assert isinstance(told, Received), told
    assert json.loads(told.envelope.to_json()) == document
    assert told.envelope.to_json() == path.read_text().strip(), "to the letter"
    assert live_settings.read(path.read_text()) == told.envelope
    assert msgspec.to_builtins(told.values) == document["values"]


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_a_newer_operator_s_settings_are_applied_as_far_as_they_are_known(path: Path) -> None:
    document = documents.load(path)
    models = tuple(document["values"]["models"])
    before = live_settings.parse(json.dumps(document), models)
    newer = documents.newer(document)
    del newer["values"]["models"]["fromTomorrow"]
    newer["hash"] = live_settings.digest(newer["values"])
    told = live_settings.parse(json.dumps(newer), models)
    assert isinstance(told, Received), told
    assert isinstance(before, Received)
    assert told.values == before.values
    assert told.envelope.hash == newer["hash"], "the echo matches what was sent"
    assert told.envelope.values == newer["values"]
    objects = ["", "values", "values.batching", "values.idle", "values.queue"]
    objects += [at for name in models for at in (f"values.models.{name}", f"values.models.{name}.idle")]
    assert told.envelope.ignored == tuple(sorted(f"{at}.fromTomorrow".lstrip(".") for at in objects))
    echo = live_settings.read(told.envelope.to_json())
    assert echo == told.envelope, "the operator reads the echo"


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_an_older_operator_s_settings_leave_the_rest_unset(path: Path) -> None:
    document = documents.load(path)
    models = tuple(document["values"]["models"])
    for place in documents.places(document["values"]):
        values = documents.without(document["values"], place)
        sent = live_settings.envelope(4, 7, values)
        told = live_settings.parse(sent.to_json(), models)
        assert isinstance(told, Received), (place, told)
        assert msgspec.to_builtins(told.values) == values
        assert told.envelope == sent


@pytest.mark.parametrize("path", PLACEMENTS, ids=lambda path: path.stem)
def test_a_placement_is_read_with_fields_more_and_fields_less(path: Path) -> None:
    document = documents.load(path)
    found = placement.read(path.read_text())
    assert isinstance(found, Record), found
    assert json.loads(found.to_json()) == document
    assert found.time is not None
    assert placement.at(found.time) == document["placedAt"]
    assert placement.read(json.dumps(documents.newer(document))) == found
    for place in documents.places(document):
        fewer = placement.read(json.dumps(documents.without(document, place)))
        assert isinstance(fewer, Record), (place, fewer)


@pytest.mark.parametrize("path", ERRORS, ids=lambda path: path.stem)
def test_an_error_is_read_with_fields_more_and_fields_less(path: Path) -> None:
    document = documents.load(path)
    found = errors.read(path.read_bytes())
    assert found.nested() == document
    assert errors.read(json.dumps(documents.newer(document)).encode()) == found
    for field in document["error"]:
        fewer = errors.read(json.dumps(documents.without(document, ("error", field))).encode())
        assert field == "message" or fewer.message == found.message
