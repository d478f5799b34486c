"""What a pod says of itself: nothing of it is believed unseen, and newer words cost nothing else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_wire import state, states
from ocr_wire.checked import Invalid
from ocr_wire.state import PodState
from ocr_wire.states import DeviceKind, Location, State, Worker
from tests.support import documents

DOCUMENT: Any = documents.load(documents.FROZEN / "v0.1.0" / "state-everything.json")
PLACES = [place for place in documents.places(DOCUMENT) if "values" not in place]


def changed(*place: str | int, to: Any) -> Any:
    return documents.with_value(DOCUMENT, place, to)


def read(document: Any) -> PodState:
    found = state.parse(json.dumps(document))
    assert isinstance(found, PodState), found
    return found


# --- words of a newer server -----------------------------------------------------------------------------------


def test_a_state_that_is_not_known_leaves_the_location_as_it_is_told() -> None:
    model = read(changed("models", 0, "state", to="compacting")).models[0]
    assert (model.state, model.location) == (State.UNKNOWN, Location.GPU)


def test_a_location_that_is_not_known_is_unknown() -> None:
    model = read(changed("models", 0, "location", to="disk")).models[0]
    assert (model.state, model.location) == (State.READY, Location.UNKNOWN)


def test_other_words_that_are_not_known_are_unknown() -> None:
    assert read(changed("device", "kind", to="rocm")).device.kind is DeviceKind.UNKNOWN
    assert read(changed("models", 0, "worker", to="parked")).models[0].worker is Worker.UNKNOWN
    progress = read(changed("models", 2, "progress", "phase", to="thawing")).models[2].progress
    assert progress is not None
    assert progress.phase == "thawing"


def test_what_an_older_server_does_not_say_is_nothing() -> None:
    for model in read(DOCUMENT).models:
        assert (model.oldest_lease_since, model.stuck_since, model.image_failure) == (None, None, None)


def test_what_a_newer_server_says_of_stuck_workers_and_images_is_read_and_cleaned() -> None:
    failure = {"reason": "DiskFull" + "!" * 100, "message": "no\x1b[2J room\n" + "x" * 5000}
    times = {"stuck_since": "2026-11-23T08:00:00Z", "oldest_lease_since": "2026-11-23T07:59:00.5Z"}
    model = read(
        changed("models", 0, to={**DOCUMENT["models"][0], **times, "image_failure": failure})
    ).models[0]
    assert model.stuck_since is not None
    assert model.oldest_lease_since is not None
    assert (model.stuck_since - model.oldest_lease_since).total_seconds() == 59.5
    assert model.image_failure is not None
    assert len(model.image_failure.reason) <= state.MAX_REASON
    assert model.image_failure.message.isprintable()
    found = state.parse(json.dumps(changed("models", 0, to={**DOCUMENT["models"][0], "stuck_since": 7})))
    assert isinstance(found, Invalid)
    assert "stuck_since" in found.at


def test_the_other_models_of_such_a_state_count() -> None:
    before, after = read(DOCUMENT), read(changed("models", 0, "state", to="compacting"))
    assert after.models[1:] == before.models[1:]
    assert after.device == before.device


@pytest.mark.parametrize("word", [3, None, ["ready"], {"ready": 1}, True], ids=repr)
def test_what_is_no_word_is_refused(word: Any) -> None:
    for place in (
        ("models", 0, "state"),
        ("models", 0, "location"),
        ("device", "kind"),
        ("models", 0, "worker"),
    ):
        found = state.parse(json.dumps(changed(*place, to=word)))
        assert isinstance(found, Invalid)
        assert found.at.endswith(str(place[-1]))


def test_ignored_settings_reach_the_operator() -> None:
    assert read(changed("settings", "ignored", to=["values.b", "values.a\n"])).settings.ignored == (
        "values.a",
        "values.b",
    )
    many = read(
        changed("settings", "ignored", to=[f"values.{number}" for number in range(1000)])
    ).settings.ignored
    assert many
    assert len(many) < 50
    assert not read(DOCUMENT).settings.ignored


# --- hostile ones ----------------------------------------------------------------------------------------------

HOSTILE: list[Any] = [
    10**300, -(10**300), 2**63, -1, 0.5, True, None, "", "x" * 70_000, "a\nb", "\x00", "\u2028", [], [1], {}, "NaN",
    "2026-11-23T08:00:00", "9999-99-99T00:00:00Z",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_any_value_in_any_field_is_read_or_refused_by_the_name_of_the_field(place: documents.Place) -> None:
    for value in HOSTILE:
        document = documents.with_value(DOCUMENT, place, value)
        for found in (state.parse(json.dumps(document)), state.parse(document)):
            if isinstance(found, Invalid):
                assert found.at, found
                assert len(str(found)) < 1000
                named = [key for key in place if isinstance(key, str)]
                assert any(key in str(found) for key in named), found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not valid JSON"),
        ("null", "object"),
        ("[" * 100_000, "object"),
        ('{"x":' + "[" * 100_000, "nested"),
        (b"\xff", "JSON"),
        ("\ud800", "JSON"),
        ("{" + '"a":' + "9" * 300_000 + "}", "at most"),
        ('{"draining": NaN}', "JSON"),
    ],
)
def test_what_is_no_state_is_refused(text: str | bytes, says: str) -> None:
    found = state.parse(text)
    assert isinstance(found, Invalid)
    assert says in str(found)


@given(st.text() | st.binary() | st.recursive(st.none() | st.floats() | st.integers() | st.text(), st.lists))
def test_parse_never_raises(payload: Any) -> None:
    assert isinstance(state.parse(payload), Invalid)


def test_numbers_of_hundreds_of_digits_are_refused_by_name() -> None:
    text = json.dumps(DOCUMENT).replace('"limit": 64', '"limit": ' + "9" * 4000)
    found = state.parse(text)
    assert isinstance(found, Invalid)
    assert found.at == "queue.limit"


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (("models", 0, "location"), "unloaded", "ready can't be on unloaded"),
        (("models", 1, "location"), "gpu", "offloaded can't be on gpu"),
        (("device", "kind"), "cpu", "the device is a CPU"),
        (("models", 1, "name"), "invoice-ocr", "twice"),
    ],
)
def test_what_contradicts_itself_is_refused(place: documents.Place, value: str, says: str) -> None:
    found = state.parse(json.dumps(changed(*place, to=value)))
    assert isinstance(found, Invalid)
    assert says in found.message


def test_texts_for_people_are_cleaned_and_cut() -> None:
    failure = (
        read(changed("models", 1, "last_failure", "message", to="a\n\x1b[1m" + "b" * 9000))
        .models[1]
        .last_failure
    )
    assert failure is not None
    assert failure.message.startswith("a [1mb")
    assert len(failure.message) == 512


def test_values_stay_unread() -> None:
    assert read(changed("settings", "values", to={"a": 10**4000})).settings.values == {}


# --- writing ---------------------------------------------------------------------------------------------------


def test_times_are_told_to_the_millisecond() -> None:
    assert state.timestamp(1764000000.12349).isoformat() == "2025-11-24T16:00:00.123000+00:00"


def test_a_failure_is_cut_before_it_is_told() -> None:
    told = state.failure("WorkerDied", "x" * 9000, 0.0, -9)
    assert len(told.message) == state.MAX_FAILURE
    assert told.exit_code == -9


def test_nobody_says_unknown() -> None:
    assert State.UNKNOWN not in states.STATES
    assert Location.UNKNOWN not in states.LOCATIONS
    assert set(states.LOCATIONS_OF) == set(State)
