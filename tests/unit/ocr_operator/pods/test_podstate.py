"""An honest state is read whole; anything else is refused by the name of the field, in bounded time."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.pods import podstate
from ocr_operator.pods.podstate import DeviceKind, InvalidState, Location, PodState, State
from tests.support.observations import raw_state


def refusal(payload: object) -> str:
    answer = podstate.parse(payload)
    assert isinstance(answer, InvalidState)
    return answer.message


def changed(path: str, value: object) -> dict[str, Any]:
    """A good state with one field replaced; numbers in the path are list positions."""
    raw: Any = raw_state()
    *parents, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place = raw
    for step in parents:
        place = place[step]
    place[last] = value
    assert isinstance(raw, dict)
    return raw


@pytest.mark.parametrize("encode", [json.dumps, lambda raw: json.dumps(raw).encode(), lambda raw: raw])
def test_a_good_state_is_read_from_text_bytes_and_objects(encode: Any) -> None:
    state = podstate.parse(
        encode(raw_state(models={"a": ("ready", "gpu"), "b": ("offloaded", "cpu")}, revision=7))
    )
    assert isinstance(state, PodState)
    assert (state.pod.name, state.device.kind) == ("invoices-7c9-abc", DeviceKind.SIMULATED)
    assert [(model.name, model.state, model.location) for model in state.models] == [
        ("a", State.READY, Location.GPU),
        ("b", State.OFFLOADED, Location.CPU),
    ]
    assert state.models[0].since == datetime(2026, 11, 23, 8, tzinfo=UTC)
    assert (state.settings.generation, state.settings.revision) == (1, 7)


def test_a_newer_server_may_say_more() -> None:
    assert isinstance(podstate.parse(raw_state() | {"carbon": 12}), PodState)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("models.0.state", "melting", "$.models[0].state"),
        ("models.0.location", "disk", "$.models[0].location"),
        ("models.0.worker", "confused", "$.models[0].worker"),
        ("device.kind", "tpu", "$.device.kind"),
        ("device.memory_used_bytes", -1, "$.device.memory_used_bytes"),
        ("device.memory_used_bytes", float("nan"), "$.device.memory_used_bytes"),
        ("device.uuid", "GPU-1\u0000", "$.device.uuid"),
        ("device.product", "x" * 129, "$.device.product"),
        ("models.0.name", "", "$.models[0].name"),
        ("models.0.name", "in\nvoice", "$.models[0].name"),
        ("models.0.name", "x" * 64, "$.models[0].name"),
        ("models.0.since", "yesterday", "$.models[0].since"),
        ("models.0.since", "2026-11-23T08:00:00", "$.models[0].since"),
        ("models", {}, "$.models"),
        ("models", [raw_state()["models"][0]] * 1000, "$.models"),
        ("settings.revision", 2**63, "$.settings.revision"),
        ("settings.hash", "0" * 65, "$.settings.hash"),
        ("pod", None, "$.pod"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(path: str, value: object, named: str) -> None:
    assert named in refusal(changed(path, value))


@pytest.mark.parametrize(
    ("state", "location", "kind"),
    [
        ("unloaded", "gpu", "simulated"),
        ("offloaded", "gpu", "cuda"),
        ("ready", "unloaded", "cpu"),
        ("ready", "gpu", "cpu"),
    ],
)
def test_a_state_that_contradicts_itself_is_refused(state: str, location: str, kind: str) -> None:
    assert "model 'm'" in refusal(raw_state(models={"m": (state, location)}, kind=kind))


def test_a_model_that_is_there_twice_is_refused() -> None:
    raw = raw_state()
    assert "twice" in refusal(raw | {"models": raw["models"] * 2})


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        "{" * 100_000,
        "[" * 100_000,
        json.dumps(raw_state()).replace('"values": {"logLevel": "info"}', '"values": ' + "[" * 90_000),
        b" " * (podstate.MAX_BYTES + 1),
        json.dumps(raw_state()).replace('"memory_used_bytes": 0', '"memory_used_bytes": NaN'),
        json.dumps(raw_state()).replace('"memory_used_bytes": 0', '"memory_used_bytes": 1' + "0" * 5000),
        None,
        17,
        object(),
    ],
)
def test_hostile_payloads_are_refused(payload: object) -> None:
    assert 0 < len(refusal(payload)) <= podstate.MAX_MESSAGE + 100


def test_texts_for_people_are_cleaned_and_cut() -> None:
    failure = {
        "reason": "Load\x1b[31mFailed",
        "message": "no\x00 room\r\n" + "x" * 9999,
        "time": None,
        "exit_code": -9,
    }
    state = podstate.parse(raw_state(failure=failure))
    assert isinstance(state, PodState)
    reported = state.models[0].last_failure
    assert reported is not None
    assert reported.reason == "Load [31mFailed"
    assert reported.message.startswith("no room xxx")
    assert len(reported.message) == podstate.MAX_MESSAGE
    assert reported.exit_code == -9


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@given(st.sampled_from(["pod", "device", "models", "settings", "queue", "version", "draining"]), JSON)
def test_nothing_raises(field: str, value: object) -> None:
    assert isinstance(podstate.parse(raw_state() | {field: value}), PodState | InvalidState)


@given(st.binary(max_size=200))
def test_no_bytes_raise(payload: bytes) -> None:
    assert isinstance(podstate.parse(payload), InvalidState)
