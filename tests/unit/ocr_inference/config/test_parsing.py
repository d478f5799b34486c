import json

import pytest

from ocr_inference.config import parsing
from ocr_inference.config.settings import Config, InvalidSettings

MODEL = "name: m, engine: fake"


def test_an_empty_file_means_the_defaults() -> None:
    assert parsing.parse_config("") == Config()
    assert parsing.parse_config("{}") == Config()


def test_json_is_yaml() -> None:
    text = json.dumps(
        {"models": [{"name": "m", "engine": "fake", "gpuMemory": "1Gi", "options": {"repeat": 1}}]}
    )
    (model,) = parsing.parse_config(text).models
    assert (model.name, model.gpu_memory_bytes, model.options) == ("m", 1 << 30, {"repeat": 1})


@pytest.mark.parametrize(
    ("text", "param", "says"),
    [
        ("modles: []", "modles", "did you mean 'models'"),
        (f"models: [{{{MODEL}, gpuMemori: 1}}]", "models[0].gpuMemori", "did you mean 'gpuMemory'"),
        ("server: {limits: {maxuploadBytes: 1}}", "server.limits.maxuploadBytes", "'maxUploadBytes'"),
        ("models: []", "models", ">= 1"),
        ("models: [{name: m}]", "models[0]", "engine"),
        ("models: [{name: M, engine: fake}]", "models[0].name", "regex"),
        ('models: [{name: "m\\n", engine: fake}]', "models[0].name", "regex"),
        (
            f'models: [{{{MODEL}, source: {{huggingFace: {{repo: "a/b\\n"}}}}}}]',
            "models[0].source.huggingFace.repo",
            "regex",
        ),
        ("models: [{name: m, engine: fast}]", "models[0].engine", "there are transformers"),
        ("models: [{name: m, engine: transformers}]", "models[0].source", "huggingFace or path"),
        (f"models: [{{{MODEL}}}, {{{MODEL}}}]", "models[1].name", "two models"),
        (f"models: [{{{MODEL}, gpuMemory: lots}}]", "models[0].gpuMemory", "12Gi"),
        (f"models: [{{{MODEL}, source: {{}}}}]", "models[0].source", "exactly one"),
        ("models: [{name: m, engine: rapidocr, source: {path: /x}}]", "models[0].source", "takes no source"),
        (f"models: [{{{MODEL}, idle: {{exitAfterSeconds: -0.5}}}}]", "models[0].idle.exitAfterSeconds", "-1"),
        ("idle: {offloadAfterSeconds: .nan}", "idle.offloadAfterSeconds", ""),
        ("idle: {offloadAfterSeconds: .inf}", "idle.offloadAfterSeconds", "str"),
        ("idle: {offloadAfterSeconds: 1:30}", "idle.offloadAfterSeconds", "str"),
        ("batching: {maxPages: 1_0}", "batching.maxPages", "str"),
        ("batching: {maxPages: 0x10}", "batching.maxPages", "str"),
        (
            f"models: [{{{MODEL}, options: {{speed: 1}}}}]",
            "models[0].options.speed",
            "model m: engine fake has no",
        ),
        (f"models: [{{{MODEL}, options: {{repeat: 1_0}}}}]", "models[0].options.repeat", "is a number"),
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


@pytest.mark.parametrize(
    ("model", "param"),
    [("engine: rapidocr, dtype: float16", "dtype"), ("engine: rapidocr, attention: sdpa", "attention")],
)
def test_an_option_that_an_engine_does_not_take_is_refused(model: str, param: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        parsing.parse_config(f"models: [{{name: m, {model}}}]")
    assert caught.value.param == f"models[0].{param}"


@pytest.mark.parametrize(
    "text", ["models: [\n  s3cret: x\n: {", "a: s3cret\n b: c: d", "a: 's3cret", "a: s3cret\x01"]
)
def test_of_a_file_that_is_no_yaml_the_place_is_said_and_no_line_quoted(text: str) -> None:
    with pytest.raises(InvalidSettings, match="not valid YAML") as refused:
        parsing.parse_config(text)
    assert "s3cret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_key_that_is_given_twice_is_named_with_its_place() -> None:
    with pytest.raises(InvalidSettings, match=r"key 'idle' is given twice \(line 2, column 1\)"):
        parsing.parse_config("idle: {}\nidle: {}")


def test_a_number_is_what_it_looks_like() -> None:
    text = f"{{models: [{{{MODEL}}}], batching: {{maxPages: 010}}, queue: {{patienceSeconds: 0.5}}}}"
    config = parsing.parse_config(text)
    assert (config.batching.max_pages, config.queue.patience_seconds) == (10, 0.5)
