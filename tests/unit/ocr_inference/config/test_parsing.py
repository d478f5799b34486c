import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.config import parsing
from ocr_inference.config.settings import Config, InvalidSettings, LiveSettings

MODEL = "name: m, engine: fake"


def test_an_empty_file_means_the_defaults() -> None:
    assert parsing.parse_config("") == Config()
    assert parsing.parse_config("{}") == Config()


def test_json_is_yaml() -> None:
    text = json.dumps({"models": [{"name": "m", "engine": "fake", "gpuMemory": "1Gi", "options": {"x": 1}}]})
    (model,) = parsing.parse_config(text).models
    assert (model.name, model.gpu_memory_bytes, model.options) == ("m", 1 << 30, {"x": 1})


@pytest.mark.parametrize(
    ("text", "param", "says"),
    [
        ("modles: []", "modles", "did you mean 'models'"),
        (f"models: [{{{MODEL}, gpuMemori: 1}}]", "models[0].gpuMemori", "did you mean 'gpuMemory'"),
        ("server: {limits: {maxuploadBytes: 1}}", "server.limits.maxuploadBytes", "'maxUploadBytes'"),
        ("models: []", "models", ">= 1"),
        ("models: [{name: m}]", "models[0]", "engine"),
        ("models: [{name: M, engine: fake}]", "models[0].name", "regex"),
        ("models: [{name: m, engine: fast}]", "models[0].engine", "there are transformers"),
        ("models: [{name: m, engine: transformers}]", "models[0].source", "huggingFace or path"),
        (f"models: [{{{MODEL}}}, {{{MODEL}}}]", "models[1].name", "two models"),
        (f"models: [{{{MODEL}, gpuMemory: lots}}]", "models[0].gpuMemory", "12Gi"),
        (f"models: [{{{MODEL}, source: {{}}}}]", "models[0].source", "exactly one"),
        ("models: [{name: m, engine: rapidocr, source: {path: /x}}]", "models[0].source", "remove"),
        (f"models: [{{{MODEL}, idle: {{exitAfterSeconds: -0.5}}}}]", "models[0].idle.exitAfterSeconds", "-1"),
        ("idle: {offloadAfterSeconds: .nan}", "idle.offloadAfterSeconds", ""),
        ("idle: {offloadAfterSeconds: .inf}", "idle.offloadAfterSeconds", "<="),
        ("logLevel: loud", "logLevel", "loud"),
        ("idle: {}\nidle: {}", "config", "twice"),
        ("a: &x [1]\nb: *x", "config", "aliases"),
        ("{", "config", "YAML"),
        ("- 1", "config", "object"),
        ("[" * 20_000, "config", "deeply"),
        ("x" * (2 << 20), "config", "larger"),
        ("!!python/object/apply:os.system [id]", "config", "YAML"),
    ],
)
def test_a_bad_file_names_the_place(text: str, param: str, says: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        parsing.parse_config(text)
    assert caught.value.param == param
    assert says in caught.value.message


def envelope(**parts: Any) -> str:
    return json.dumps({"generation": 1, "revision": 2, "values": {}, **parts})


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ("", "body"),
        ("[]", "body"),
        ("{", "body"),
        ("[" * 20_000, "body"),
        (envelope(revision=True), "revision"),
        (envelope(revision=-1), "revision"),
        (envelope(generation=2**70), "generation"),
        (envelope(values=None), "values"),
        (envelope(hash="0"), "hash"),
        (envelope(values={"models": {"x": {}}}), "values.models.x"),
        (
            envelope(values={"models": {"m": {"idle": {"exitAfterSeconds": -3}}}}),
            "values.models.m.idle.exitAfterSeconds",
        ),
        (envelope(values={"models": []}), "values.models"),
        (envelope(values={"batching": {"maxPages": 0}}), "values.batching.maxPages"),
        (envelope(values={"batching": {"maxPages": 1.5}}), "values.batching.maxPages"),
    ],
)
def test_a_bad_envelope_names_the_place(text: str, param: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        parsing.parse_live(text, ("m",))
    assert caught.value.param == param


def test_unknown_keys_of_the_envelope_itself_are_left_to_newer_versions() -> None:
    assert parsing.parse_live(envelope(signature="x"), ("m",)) == LiveSettings(1, 2)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["idle", "models", "m", "queue", "limit", "offloadAfterSeconds", "x"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_arrives_is_taken_or_refused_by_name(values: Any) -> None:
    try:
        taken = parsing.parse_live(json.dumps({"generation": 1, "revision": 1, "values": values}), ("m",))
    except InvalidSettings as error:
        param = error.param
    else:
        param = "none"
        echo = taken.to_json()
        assert echo["values"] == values
        assert parsing.parse_live(json.dumps(echo), ("m",)) == taken
    assert param
