"""Live settings: what pods are told, and how they tell new from old."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.resources import live_settings
from ocr_operator.resources.live_settings import InvalidLiveSettings, LiveSettings, Revision
from tests.support import resources

SHARED_WITH_PODS = {"idle", "batching", "queue", "logLevel", "models"}


def make_values(**spec: Any) -> dict[str, Any]:
    return live_settings.values(resources.make_deployment(**spec).spec)


def make_envelope(revision: int = 7, **spec: Any) -> LiveSettings:
    live = make_values(**spec)
    return live_settings.envelope(4, Revision(revision, live_settings.digest(live)), live)


def test_values_of_a_resource_with_defaults() -> None:
    models = [{**resources.RAPIDOCR, "idle": {"offloadAfterSeconds": 5}, "preload": True}]
    assert make_values(models=models) == {
        "idle": {"offloadAfterSeconds": 60, "exitAfterSeconds": 300, "releaseAfterSeconds": 1800},
        "batching": {"maxPages": 8, "maxWaitMilliseconds": 10},
        "queue": {"limit": 64, "patienceSeconds": 10, "deadlineSeconds": 300},
        "logLevel": "info",
        "models": {
            "pp-ocr": {
                "idle": {"offloadAfterSeconds": 5, "exitAfterSeconds": 300, "releaseAfterSeconds": 1800},
                "priority": 0,
                "preload": True,
            }
        },
    }


def test_routing_is_not_for_pods() -> None:
    assert make_values(routing={"policy": "all"}).keys() == SHARED_WITH_PODS
    assert make_values(routing={"policy": "all"}) == make_values()


def test_digest_is_of_canonical_json() -> None:
    live = {"b": 1, "a": {"é": [1.0, 0.5, True, None]}}
    text = '{"a":{"é":[1,0.5,true,null]},"b":1}'
    assert live_settings.digest(live) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_digest_of_the_default_resource_is_known() -> None:
    """A change here means that every pod of every cluster is told its settings anew after an upgrade."""
    assert live_settings.digest(make_values()) == "ad321f58610039fc"


VALUES = st.dictionaries(
    st.text(max_size=5),
    st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.booleans(),
    max_size=5,
)


@given(VALUES)
def test_digest_does_not_depend_on_order_or_on_the_kind_of_number(live: dict[str, Any]) -> None:
    turned = {
        key: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for key, value in reversed(live.items())
    }
    assert live_settings.digest(turned) == live_settings.digest(live)


def test_first_revision_is_one() -> None:
    live = make_values()
    assert live_settings.advance(None, live) == Revision(1, live_settings.digest(live))


def test_same_values_keep_their_revision() -> None:
    live = make_values()
    before = Revision(41, live_settings.digest(live))
    assert live_settings.advance(before, live) is before


def test_other_values_raise_the_revision_also_when_they_were_there_before() -> None:
    first = live_settings.advance(None, make_values())
    second = live_settings.advance(first, make_values(logLevel="debug"))
    third = live_settings.advance(second, make_values())
    assert [first.revision, second.revision, third.revision] == [1, 2, 3]
    assert third.hash == first.hash


def test_a_lost_revision_goes_on_above_what_pods_run_with() -> None:
    live = make_values()
    assert live_settings.advance(None, live, reported=9).revision == 10
    restored = Revision(3, live_settings.digest(live))
    assert live_settings.advance(restored, live, reported=9).revision == 10
    assert live_settings.advance(restored, live, reported=3) is restored


def test_a_pod_cannot_use_up_the_counter() -> None:
    assert live_settings.advance(None, make_values(), reported=2**63 - 1).revision == 1


@given(st.lists(st.tuples(st.sampled_from(["debug", "info", "error"]), st.integers(0, 20)), max_size=20))
def test_revision_never_falls_and_stands_for_one_hash(steps: list[tuple[str, int]]) -> None:
    current: Revision | None = None
    meaning: dict[int, str] = {}
    for level, reported in steps:
        after = live_settings.advance(current, make_values(logLevel=level), reported)
        assert current is None or after.revision >= current.revision
        assert after.revision >= reported
        assert meaning.setdefault(after.revision, after.hash) == after.hash
        current = after


@pytest.mark.parametrize(
    "status",
    [{}, {"liveSettings": None}, {"liveSettings": {"revision": -1, "hash": "0" * 16}}, {"liveSettings":
    {"revision": 1}},
     {"liveSettings": {"revision": "1", "hash": "0" * 16}}, {"liveSettings": {"revision": 1, "hash": "XYZ"}}],
)  # fmt: skip
def test_damaged_revision_is_none(status: dict[str, Any]) -> None:
    assert live_settings.revision(status) is None


def test_revision_is_read_from_the_status() -> None:
    status = {"liveSettings": {"revision": 3, "hash": "0123456789abcdef"}}
    assert live_settings.revision(status) == Revision(3, "0123456789abcdef")


def test_envelope_survives_the_annotation() -> None:
    envelope = make_envelope()
    assert live_settings.parse(envelope.to_json()) == envelope
    assert json.loads(envelope.to_json()).keys() == {"generation", "revision", "hash", "values"}


def test_equal_envelopes_give_equal_text() -> None:
    live = make_values()
    turned = dict(reversed(live.items()))
    current = Revision(1, live_settings.digest(live))
    assert (
        live_settings.envelope(1, current, live).to_json()
        == live_settings.envelope(1, current, turned).to_json()
    )


def edited(**change: Any) -> str:
    return json.dumps({**json.loads(make_envelope().to_json()), **change})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        "{}",
        b"\xff\xfe",
        "\ud800",
        edited(revision=-1),
        edited(revision="7"),
        edited(revision=2**63),
        edited(hash="0" * 16),
        edited(hash="short"),
        edited(values=[]),
        edited(values={}),
        edited(values={"a": "x" * 70_000}),
        '{"generation":1,"revision":1,"hash":"0000000000000000","values":{"a":1e999}}',
        '{"generation":1,"revision":1,"hash":"0000000000000000","values":'
        + '{"a":' * 5000
        + "1"
        + "}" * 5001,
    ],
)
def test_hostile_annotation_is_refused_with_a_reason(text: str | bytes) -> None:
    outcome = live_settings.parse(text)
    assert isinstance(outcome, InvalidLiveSettings), outcome
    assert len(outcome.message) > 20


@given(st.text() | st.binary())
def test_parse_never_raises(text: str | bytes) -> None:
    assert isinstance(live_settings.parse(text), InvalidLiveSettings)
