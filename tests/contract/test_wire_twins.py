"""`ocr_wire` says what the programs' own copies say, as long as they have some: each test goes with its copy."""

import json
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ocr_operator.decide.placement.reservations
import ocr_operator.resources.live_settings
import ocr_operator.resources.names
import ocr_operator.resources.quantity
from ocr_operator.decide.status import conditions as status_conditions
from ocr_operator.decide.status.events import _GOOD
from ocr_operator.pods import podstate
from ocr_operator.resources import effective, spec
from ocr_wire import (
    conditions,
    live_settings,
    names,
    placement,
    quantity,
    settings,
    state,
    states,
)
from ocr_wire.checked import Invalid
from tests.support import documents

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "state").glob("*.json"))


def test_names() -> None:
    twin = ocr_operator.resources.names
    shared = {name for name in vars(twin) if name.isupper()} & {
        name for name in vars(names) if name.isupper()
    }
    assert len(shared) > 10
    for name in shared:
        assert getattr(twin, name) == getattr(names, name), name
    assert {name for name in vars(twin) if name.isupper()} - shared <= {"FIELD_MANAGER"}


def values(words: Iterable[StrEnum]) -> list[str]:
    return [each.value for each in words]


def test_states() -> None:
    assert values(states.STATES) == values(podstate.State)
    assert set(values(states.LOCATIONS)) == set(values(podstate.Location))


def test_conditions() -> None:
    assert list(status_conditions.CONDITIONS) == [each.type for each in conditions.CONDITIONS]
    told = {each.type: each.healthy for each in conditions.CONDITIONS if each.is_news}
    assert told == _GOOD


def test_live_settings_of_the_operator() -> None:
    assert settings.GENERAL == effective.GENERAL
    assert settings.PER_MODEL == effective.PER_MODEL
    assert settings.MAX_SECONDS == spec.MAX_SECONDS
    for part, of in {
        "idle": spec.Idle,
        "batching": spec.Batching,
        "queue": spec.Queue,
        "routing": spec.Routing,
    }.items():
        for name, value in msgspec.to_builtins(of()).items():
            assert settings.default(f"{part}.{name}") == value


QUANTITIES = st.text("0123456789.eEmkKMGi", max_size=9) | st.integers(0, 2**63) | st.floats(0, 1e18)


@given(QUANTITIES)
def test_quantities(value: Any) -> None:
    assert quantity.parse(value) == ocr_operator.resources.quantity.parse(value)


@given(
    st.dictionaries(
        st.text(max_size=5), st.integers() | st.floats(-1e9, 1e9) | st.booleans() | st.text(max_size=5)
    )
)
def test_digests(values: dict[str, Any]) -> None:
    assert live_settings.digest(values) == ocr_operator.resources.live_settings.digest(values)


@pytest.mark.parametrize("path", documents.frozen("live-settings*.json"), ids=lambda path: path.stem)
def test_envelopes(path: Path) -> None:
    text = path.read_text()
    ours = live_settings.read(text)
    theirs = ocr_operator.resources.live_settings.parse(text)
    assert isinstance(ours, live_settings.Envelope)
    assert isinstance(theirs, ocr_operator.resources.live_settings.LiveSettings)
    assert ours.to_json() == theirs.to_json()


@pytest.mark.parametrize("path", [*GOLDEN, *documents.frozen("state-*.json")], ids=lambda path: path.stem)
def test_states_are_read_as_the_operator_reads_them(path: Path) -> None:
    ours, theirs = state.parse(path.read_bytes()), podstate.parse(path.read_bytes())
    assert isinstance(theirs, podstate.PodState)
    assert not isinstance(ours, Invalid)
    mine, other = msgspec.to_builtins(ours), msgspec.to_builtins(theirs)
    assert _within(other, mine)


def _within(small: Any, large: Any) -> bool:
    """Whether all that the one says the other says, too."""
    if isinstance(small, dict):
        return all(key in large and _within(value, large[key]) for key, value in small.items())
    if isinstance(small, list | tuple):
        return len(small) == len(large) and all(map(_within, small, large))
    return bool(small == large)


@pytest.mark.parametrize("path", documents.frozen("placement-*.json"), ids=lambda path: path.stem)
def test_placements_are_read_as_the_operator_reads_them(path: Path) -> None:
    text = path.read_text()
    ours = placement.read(text)
    assert isinstance(ours, placement.Record)
    mine = json.loads(ours.to_json())
    twin = ocr_operator.decide.placement.reservations.Record
    assert _within(msgspec.to_builtins(msgspec.json.decode(text, type=twin)), mine)
