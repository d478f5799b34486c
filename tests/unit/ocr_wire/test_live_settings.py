"""Live settings on the wire: hash, tolerance, and the strictness of what a person writes."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from ocr_wire import checked, live_settings
from ocr_wire.checked import Invalid
from ocr_wire.live_settings import BatchingValues, Envelope, IdleValues, LiveValues, ModelValues, Received

MODELS = ("m", "pp-ocr", "local.model")

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(-1e15, 1e15, allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=5), JSON, max_size=5)


def turned(value: Any) -> Any:
    """The same value as another program might write it: keys in another order, 60 as 60.0."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return [turned(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


@given(OBJECTS)
def test_digest_does_not_depend_on_order_or_on_the_kind_of_number(values: dict[str, Any]) -> None:
    assert live_settings.digest(turned(values)) == live_settings.digest(values)


def test_digest_is_of_canonical_json() -> None:
    text = '{"a":{"é":[1,0.5,true,null]},"b":1}'
    values = {"b": 1, "a": {"é": [1.0, 0.5, True, None]}}
    assert live_settings.digest(values) == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert live_settings.digest({}) == live_settings.NOTHING


# --- values of all kinds, known and unknown -------------------------------------------------------------------

SECONDS = st.just(-1) | st.integers(0, 31_536_000) | st.floats(0, 31_536_000)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


IDLE = some(offloadAfterSeconds=SECONDS, exitAfterSeconds=SECONDS, releaseAfterSeconds=SECONDS)
VALUES = some(
    idle=IDLE,
    batching=some(maxPages=st.integers(1, 256), maxWaitMilliseconds=st.integers(0, 60_000)),
    queue=some(limit=st.integers(1, 100_000), patienceSeconds=st.integers(0, 86_400)),
    logLevel=st.sampled_from(["debug", "info", "warning", "error"]),
    models=st.dictionaries(
        st.sampled_from(MODELS),
        some(idle=IDLE, priority=st.integers(-1000, 1000), preload=st.booleans()),
        max_size=3,
    ),
)


def sent(values: Any, **more: Any) -> str:
    return json.dumps({"generation": 4, "revision": 7, "values": values, **more})


@given(VALUES)
def test_where_all_is_known_tolerant_is_strict(values: dict[str, Any]) -> None:
    told = live_settings.parse(sent(values), MODELS)
    assert isinstance(told, Received), told
    assert told.values == live_settings.parse_values(values, "values", strict=True)
    assert told.envelope.ignored is UNSET
    assert live_settings.integral(msgspec.to_builtins(told.values)) == live_settings.integral(values)


PLACES = (
    "",
    "idle",
    "batching",
    "queue",
    *(f"models.{name}{part}" for name in MODELS for part in ("", ".idle")),
)


@given(
    VALUES,
    st.dictionaries(st.sampled_from(PLACES), st.dictionaries(st.sampled_from("xyz"), JSON), max_size=4),
)
def test_what_is_ignored_is_named_exactly_and_changes_nothing_else(
    values: dict[str, Any], added: dict[str, dict[str, Any]]
) -> None:
    more = json.loads(json.dumps(values))
    expected = set()
    for place, fields in added.items():
        inside = more
        name = next((each for each in MODELS if place.startswith(f"models.{each}")), "")
        keys = [] if not place else place.split(".")
        if name:
            keys = ["models", name, *(["idle"] if place.endswith(".idle") else [])]
        for key in keys:
            inside = inside.setdefault(key, {})
        inside.update(fields)
        expected |= {".".join(["values", *keys, field]) for field in fields}
    told, before = live_settings.parse(sent(more), MODELS), live_settings.parse(sent(values), MODELS)
    assert isinstance(told, Received), told
    assert isinstance(before, Received)
    assert told.envelope.ignored == (tuple(sorted(expected)) or UNSET)
    assert told.envelope.hash == live_settings.digest(more), "the hash is of what was sent"
    assert said(told.values) == said(before.values)


def said(values: LiveValues) -> dict[str, Any]:
    """What values say, where a part that says nothing is as one that isn't there."""
    built: dict[str, Any] = msgspec.to_builtins(values)
    models = {
        name: {key: part for key, part in each.items() if part != {}}
        for name, each in built.pop("models", {}).items()
    }
    return {key: part for key, part in built.items() if part != {}} | {
        name: each for name, each in models.items() if each
    }


def test_settings_of_a_model_that_the_pod_does_not_have_are_ignored() -> None:
    """While pods are replaced those of the old template are told of the new models, too."""
    told = live_settings.parse(
        sent({"models": {"m": {"priority": 1}, "new": {"priority": "?"}, "": {}}}), MODELS
    )
    assert isinstance(told, Received), told
    assert told.values == LiveValues(models={"m": ModelValues(priority=1)})
    assert told.envelope.ignored == ("values.models.", "values.models.new")


def test_few_of_many_ignored_fields_are_named() -> None:
    told = live_settings.parse(sent({f"x{number:03}" + "y" * 500: 1 for number in range(90)}), MODELS)
    assert isinstance(told, Received), told
    assert told.envelope.ignored is not UNSET
    assert len(told.envelope.ignored) == live_settings.MAX_IGNORED + 1
    assert told.envelope.ignored[-1] == "… and 58 more"
    assert max(map(len, told.envelope.ignored)) <= live_settings.MAX_PATH


@given(JSON | VALUES)
def test_whatever_arrives_is_taken_or_refused_by_name(values: Any) -> None:
    told = live_settings.parse(sent(values), MODELS)
    if isinstance(told, Invalid):
        assert told.at.startswith("values")
        assert told.message
    else:
        assert live_settings.integral(values) == told.envelope.values
        again = live_settings.parse(told.envelope.to_json(), MODELS)
        assert again == told, "the echo is an envelope itself"


@given(st.text() | st.binary())
def test_reading_never_raises(text: str | bytes) -> None:
    assert isinstance(live_settings.parse(text, MODELS), Invalid)
    assert isinstance(live_settings.read(text), Invalid)


def of_model(seconds: float) -> str:
    return sent({"models": {"m": {"idle": {"exitAfterSeconds": seconds}}}})


DEEP = '{"a":' * 5000 + "1" + "}" * 5000


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("", "", "not valid JSON"),
        ("[]", "", "expected `object`"),
        ("{", "", "not valid JSON"),
        ("[" * 20_000, "", "nested"),
        (b"\xff\xfe", "", "not valid JSON"),
        ("\ud800", "", "not valid JSON"),
        (sent({"a": "x" * 70_000}), "", "at most 65536"),
        (sent({}, revision=True), "revision", "expected `int`"),
        (sent({}, revision=-1), "revision", ">= 0"),
        (sent({}, revision=2**63), "revision", "<="),
        (sent({}, revision=2**63 - 1), "revision", "at most 9007199254740992"),
        (sent({}, revision=live_settings.MAX_REVISION + 1), "revision", "at most 9007199254740992"),
        (sent({}, generation=2**70), "generation", "too large a number"),
        ('{"revision":1,"values":{}}', "generation", "missing required field"),
        ('{"generation":1,"revision":1}', "values", "missing required field"),
        (sent({}, hash="0" * 16), "hash", "44136fa355b3678a"),
        (sent(None), "values", "expected `object`"),
        (sent([]), "values", "expected `object`"),
        ('{"generation":1,"revision":1,"values":' + DEEP + "}", "", "nested"),
        (sent({"x": json.loads("[" * 40 + "]" * 40)}), "values.x" + "[0]" * 30, "nested deeper than 32"),
        ('{"generation":1,"revision":1,"revision":2,"values":{}}', "", "'revision' twice"),
        ('{"generation":1,"revision":1,"values":{"a":{"b":1,"b":1}}}', "", "'b' twice"),
        ('{"generation":1,"revision":1,"values":{"a":1e999}}', "", "number out of range"),
        (sent({"x": [10**300]}), "values.x[0]", "too large a number"),
        (sent({"idle": {"offloadAfterSeconds": 10**300}}), "values.idle.offloadAfterSeconds", "too large a number"),
        (sent({"queue": {"limit": 10**4200}}), "values.queue.limit", "too large a number"),
        ('{"generation":1,"revision":1,"values":{"a":' + "9" * 9000 + "}}", "", "out of range"),
        ('{"generation":1,"revision":1,"values":{"a":NaN}}', "", "not valid JSON"),
        (sent({"models": []}), "values.models", "expected `object`"),
        (sent({"models": {"m": 1}}), "values.models.m", "expected `object`"),
        (of_model(-3), "values.models.m.idle.exitAfterSeconds", ">= -1"),
        (of_model(-0.5), "values.models.m.idle.exitAfterSeconds", "-1 for never"),
        (sent({"idle": {"exitAfterSeconds": -0.5}}), "values.idle.exitAfterSeconds", "-1 for never"),
        (sent({"batching": {"maxPages": 0}}), "values.batching.maxPages", ">= 1"),
        (sent({"batching": {"maxPages": 1.5}}), "values.batching.maxPages", "expected `int`"),
        (sent({"queue": {"deadlineSeconds": 0}}), "values.queue.deadlineSeconds", "> 0"),
        (sent({"logLevel": "loud"}), "values.logLevel", "loud"),
    ],
)  # fmt: skip
def test_a_bad_envelope_names_the_place(text: str | bytes, at: str, says: str) -> None:
    found = live_settings.parse(text, MODELS)
    assert isinstance(found, Invalid), found
    assert (found.at, says in found.message) == (at, True), found


def test_nothing_of_what_is_bad_in_part_is_applied() -> None:
    values = {"logLevel": "debug", "queue": {"limit": "many"}}
    assert live_settings.parse(sent(values), MODELS) == Invalid(
        "expected `int`, got `str`", "values.queue.limit"
    )


@pytest.mark.parametrize(
    ("values", "at", "says"),
    [
        ({"idel": {}}, "values.idel", "did you mean 'idle'"),
        ({"idle": {"offLoadAfterSeconds": 1}}, "values.idle.offLoadAfterSeconds", "did you mean 'offloadAfterSeconds'"),
        ({"models": {"m": {"prority": 1}}}, "values.models.m.prority", "did you mean 'priority'"),
        ({"zzz": 1}, "values.zzz", "unknown key"),
        ({"models": {"m\n": {}}}, "values.models", "regex"),
    ],
)  # fmt: skip
def test_a_person_s_slip_is_named(values: dict[str, Any], at: str, says: str) -> None:
    found = live_settings.parse_values(values, "values", strict=True)
    assert isinstance(found, Invalid), found
    assert (found.at, says in found.message) == (at, True), found


# --- layers ----------------------------------------------------------------------------------------------------


def test_the_strongest_layer_that_sets_a_field_wins() -> None:
    strong, weak = (
        IdleValues(offload_after_seconds=1),
        IdleValues(offload_after_seconds=2, exit_after_seconds=3),
    )
    assert live_settings.merged(strong, weak) == IdleValues(offload_after_seconds=1, exit_after_seconds=3)
    assert live_settings.merged(strong) == strong


@dataclass(frozen=True)
class Batching:
    max_pages: int = 8
    max_wait_milliseconds: float = 10.0


def test_layers_are_laid_over_defaults() -> None:
    layers = (UNSET, BatchingValues(max_pages=1), BatchingValues(max_pages=2, max_wait_milliseconds=0))
    assert live_settings.completed(Batching(), *layers) == Batching(1, 0)
    assert live_settings.completed(Batching()) == Batching()


PAGES = st.sampled_from([UNSET, 1, 2])


@given(st.lists(st.builds(BatchingValues, PAGES, PAGES), min_size=1, max_size=4))
def test_merging_first_or_at_once_is_the_same(layers: list[BatchingValues]) -> None:
    first = live_settings.merged(*layers)
    assert live_settings.completed(Batching(), first) == live_settings.completed(Batching(), *layers)
    assert live_settings.merged(layers[0], *layers[1:]) == live_settings.merged(
        layers[0], live_settings.merged(*layers)
    )


def test_equal_envelopes_give_equal_text() -> None:
    values = {"idle": {"offloadAfterSeconds": 60}, "logLevel": "info"}
    one, other = live_settings.envelope(1, 2, values), live_settings.envelope(1, 2, turned(values))
    assert one == other
    assert one.to_json() == other.to_json()
    assert json.loads(one.to_json()).keys() == {"generation", "revision", "hash", "values"}
    assert live_settings.read(one.to_json()) == one


def test_a_pod_that_was_told_nothing_says_so() -> None:
    assert Received().envelope == Envelope(hash=live_settings.digest({}))
    assert list(checked.unknown({}, LiveValues)) == []
