"""The annotation of a live override: what it may say, and what is said of one that can't be used."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_wire import live_override
from ocr_wire.checked import Invalid
from ocr_wire.live_override import Override
from ocr_wire.settings import LIVE, LiveSetting

END = datetime(2026, 11, 25, 14, 5, tzinfo=UTC)


def values_of(row: LiveSetting) -> st.SearchStrategy[Any]:
    if row.admits is not None:
        return st.integers(int(row.admits.least), int(row.admits.most))
    return st.sampled_from(row.words) if row.words else st.booleans()


def settings() -> st.SearchStrategy[dict[live_override.Place, Any]]:
    places = [("", row) for row in LIVE if row.general]
    places += [(model, row) for row in LIVE if row.per_model for model in ("a", "pp-ocr.2")]
    return st.fixed_dictionaries({}, optional={(model, row.path): values_of(row) for model, row in places})


@given(settings(), st.none() | st.datetimes(timezones=st.just(UTC)))
def test_whatever_a_spec_may_say_is_written_and_read(values: Any, until: datetime | None) -> None:
    until = until and until.replace(microsecond=0, year=max(until.year, 1000))
    override = Override(values=values, until=until)
    text = override.to_json()
    assert live_override.read(text) == override
    assert Override(values=dict(reversed(values.items())), until=until).to_json() == text


def test_keys_are_those_of_the_spec_and_the_end_has_any_zone() -> None:
    text = """{"values": {"idle": {"offloadAfterSeconds": 30}, "logLevel": "debug",
               "models": [{"name": "pp-ocr", "idle": {"exitAfterSeconds": -1}, "preload": true}]},
               "until": "2026-11-25T16:05:00+02:00"}"""
    assert live_override.read(text) == Override(
        values={
            ("", "idle.offloadAfterSeconds"): 30,
            ("", "logLevel"): "debug",
            ("pp-ocr", "idle.exitAfterSeconds"): -1,
            ("pp-ocr", "preload"): True,
        },
        until=END,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not valid JSON"),
        ("null", "expected `object`"),
        ("{}", "missing required field `values`"),
        ('{"values": {}, "till": "x"}', "till: unknown key; did you mean 'until'?"),
        ('{"values": {"replicas": 2}}', "values.replicas: unknown key"),
        ('{"values": {"idle": {"offloadAfterSecond": 3}}}', "did you mean 'offloadAfterSeconds'?"),
        ('{"values": {"idle": {"offloadAfterSeconds": -2}}}', "values.idle.offloadAfterSeconds: expected"),
        ('{"values": {"idle": {"offloadAfterSeconds": 0.5}}}', "expected `int`, got `float`"),
        ('{"values": {"idle": {"offloadAfterSeconds": 31536001}}}', "<= 31536000"),
        ('{"values": {"idle": null}}', "values.idle: expected `object`"),
        ('{"values": {"logLevel": "loud"}}', "values.logLevel: invalid enum value 'loud'"),
        ('{"values": {"models": [{"preload": true}]}}', "missing required field `name`"),
        ('{"values": {"models": [{"name": "a", "queue": {}}]}}', "values.models[0].queue: unknown key"),
        ('{"values": {"models": [{"name": "a"}, {"name": "a"}]}}', "values.models[1]: is there twice: 'a'"),
        ('{"values": {}, "until": "2026-11-25T14:05:00"}', "until: expected `datetime` with a timezone"),
        ('{"values": {}, "until": "soon"}', "until: "),
        ('{"values": {}, "until": "0001-01-01T00:00:00+10:00"}', "until: is no time that a clock can show"),
        ("[" * 5000, "nested too deeply"),
        ('{"values": {}}' + " " * live_override.MAX_BYTES, "at most 16384 are read"),
        ("\ud800", "is not valid JSON"),
    ],
)
def test_what_cannot_be_meant_is_named(text: str, said: str) -> None:
    found = live_override.read(text)
    assert isinstance(found, Invalid)
    assert said in str(found)


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(str))
def test_reader_never_raises_and_any_text_has_a_hash(text: str) -> None:
    live_override.read(text)
    assert len(live_override.digest(text)) == 16


def test_time_is_written_in_utc() -> None:
    assert live_override.stamp(END.astimezone(None) + timedelta(seconds=0.9)) == "2026-11-25T14:05:00Z"
