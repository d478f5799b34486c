from pathlib import Path

import msgspec
import pytest

from ocr_inference.cli import configuration
from ocr_inference.config import environment, parsing
from ocr_inference.config.settings import (
    Config,
    HuggingFace,
    Idle,
    InvalidSettings,
    Source,
    effective,
)
from ocr_wire.live_settings import LiveValues, Received, parse
from ocr_wire.settings import NEVER

FILE = """
models:
  - {name: first, engine: rapidocr, idle: {exitAfterSeconds: 5}, priority: 3}
  - {name: second, engine: rapidocr}
idle: {releaseAfterSeconds: 9}
queue: {limit: 3}
"""


def live(values: str) -> LiveValues:
    told = parse(f'{{"generation": 1, "revision": 1, "values": {values}}}', ("first", "second"))
    assert isinstance(told, Received)
    return told.values


def test_defaults_are_those_of_the_resource() -> None:
    merged = effective(Config(), LiveValues())
    assert merged.models["pp-ocr"].idle == Idle(60, 300, 1800)
    assert (merged.queue.limit, merged.queue.patience_seconds, merged.queue.deadline_seconds) == (64, 10, 300)
    assert (merged.batching.max_pages, merged.batching.max_wait_milliseconds) == (8, 10)
    assert merged.log_level == "info"


def test_each_field_comes_from_the_first_layer_that_says_something() -> None:
    config = parsing.parse_config(FILE)
    values = live(
        '{"idle": {"offloadAfterSeconds": 20, "exitAfterSeconds": 21},'
        ' "queue": {"patienceSeconds": 2},'
        ' "models": {"second": {"idle": {"offloadAfterSeconds": 30}, "preload": true}}}'
    )
    merged = effective(config, values, 12.0)
    assert merged.models["first"].idle == Idle(20, 21, 9)
    assert merged.models["second"].idle == Idle(30, 21, 9)
    assert (merged.models["first"].priority, merged.models["second"].preload) == (3, True)
    assert (merged.queue.limit, merged.queue.patience_seconds) == (3, 2)


def test_the_environments_timeout_is_the_weakest_and_a_local_one_the_strongest() -> None:
    config = parsing.parse_config(FILE)
    assert effective(config, LiveValues(), 12.0).models["first"].idle.offload_after_seconds == 12
    declared = live('{"idle": {"offloadAfterSeconds": 20}}')
    assert effective(config, declared, 12.0).models["first"].idle.offload_after_seconds == 20
    merged = effective(config, declared, 12.0, {"first": NEVER})
    assert merged.models["first"].idle.offload_after_seconds == NEVER
    assert merged.models["second"].idle.offload_after_seconds == 20


def test_the_environment_is_read_whole() -> None:
    settings = environment.read(
        {
            "PORT": "9000",
            "OCR_HOST": "127.0.1.2",
            "OCR_DEVICE": "simulated",
            "NVIDIA_VISIBLE_DEVICES": "GPU-1",
            "GPU_IDLE_TIMEOUT": "-1",
            "OCR_ADMIN_TOKEN_FILE": "/a/token",
            "OCR_API_KEYS_FILE": "",
            "OCR_LIVE_SETTINGS_FILE": "/a/live",
            "OCR_CORS_ORIGINS": "https://App.example.com:443/, http://localhost:3000,chrome-extension://abc",
            "OCR_MAX_CONNECTIONS": "100",
            "OCR_KEEPALIVE_SECONDS": "120",
            "OCR_JOB_MEMORY": "1Gi",
            "OCR_FILE_MEMORY": "100Mi",
            "OCR_KEEP_SECONDS": "60",
            "OCR_ALLOWED_HOSTS": "OCR.example.com,*.team , *",
            "POD_NAME": "pod",
            "POD_UID": "uid",
        }
    )
    assert (settings.host, settings.port, settings.device) == ("127.0.1.2", 9000, "simulated")
    assert (settings.visible_devices, settings.gpu_idle_timeout) == ("GPU-1", NEVER)
    assert (str(settings.admin_token_file), settings.api_keys_file) == ("/a/token", None)
    assert settings.cors_origins == (
        "https://app.example.com",
        "http://localhost:3000",
        "chrome-extension://abc",
    )
    assert settings.allowed_hosts == ("ocr.example.com", "*.team", "*")
    assert (settings.pod_name, settings.pod_uid) == ("pod", "uid")
    assert (settings.max_connections, settings.connection_times.idle) == (100, 120)
    assert (settings.job_memory_bytes, settings.file_memory_bytes) == (1 << 30, 100 << 20)
    assert settings.keep_seconds == 60


def test_without_settings_all_addresses_and_as_many_connections_as_fit() -> None:
    settings = environment.read({"OCR_HOST": "", "OCR_MAX_CONNECTIONS": ""})
    assert (settings.host, settings.max_connections, settings.connection_times.idle) == ("", None, 75)


@pytest.mark.parametrize("kept", ["on", "resident", "off"])
def test_a_forkserver_may_keep_its_memory(kept: str) -> None:
    assert environment.read({"OCR_FORKSERVER": kept}).forkserver == kept
    assert environment.read({}).forkserver == "on"


def test_the_command_line_wins() -> None:
    settings = environment.read({"PORT": "9000", "OCR_HOST": "::1"}, host="127.0.0.1", port=0)
    assert (settings.host, settings.port) == ("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("environ", "device"),
    [
        ({}, "auto"),
        ({"FORCE_BACKEND": "cpu"}, "cpu"),
        ({"FORCE_BACKEND": "cuda", "OCR_DEVICE": "auto"}, "cuda"),
        ({"FORCE_BACKEND": "cuda", "OCR_DEVICE": "cpu"}, "cpu"),
        ({"FORCE_BACKEND": "CUDA"}, "cuda"),
        ({"FORCE_BACKEND": "Cpu"}, "cpu"),
        ({"FORCE_BACKEND": "AUTO"}, "auto"),
    ],
)
def test_force_backend_decides_where_the_device_is_left_open(environ: dict[str, str], device: str) -> None:
    assert environment.read(environ).device == device


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0x50"),
        ("PORT", "70000"),
        ("PORT", "80.5"),
        ("PORT", "8_001"),
        ("PORT", "+8001"),
        ("PORT", " 8001 "),
        ("PORT", "٨٠٠١"),
        ("OCR_DRAIN_SECONDS", "2_0"),
        ("GPU_IDLE_TIMEOUT", "٦٠"),
        ("OCR_DEVICE", "tpu"),
        ("FORCE_BACKEND", "mps"),
        ("MODEL_NAME", "DeepSeek-OCR"),
        ("MODEL_NAME", "a/b/c"),
        ("MODEL_NAME", "https://example.org/model"),
        ("GPU_IDLE_TIMEOUT", "soon"),
        ("GPU_IDLE_TIMEOUT", "nan"),
        ("GPU_IDLE_TIMEOUT", "-0.5"),
        ("OCR_DRAIN_SECONDS", "-1"),
        ("OCR_FORKSERVER", "maybe"),
        ("OCR_MAX_CONNECTIONS", "7"),
        ("OCR_MAX_CONNECTIONS", "many"),
        ("OCR_KEEPALIVE_SECONDS", "0"),
        ("OCR_KEEPALIVE_SECONDS", "inf"),
        ("OCR_JOB_MEMORY", "much"),
        ("OCR_KEEP_SECONDS", "0"),
        ("OCR_CORS_ORIGINS", "app.example.com"),
        ("OCR_CORS_ORIGINS", "https://app.example.com/page"),
        ("OCR_CORS_ORIGINS", "https://*.example.com"),
        ("OCR_CORS_ORIGINS", "null"),
        ("OCR_CORS_ORIGINS", ",".join(["https://app.example.com"] * 65)),
        ("OCR_ALLOWED_HOSTS", "https://ocr.example.com"),
        ("OCR_ALLOWED_HOSTS", "ocr.example.com:8001"),
        ("OCR_ALLOWED_HOSTS", "ocr.*"),
        ("OCR_ALLOWED_HOSTS", "ocr.example.com\nx"),
    ],
)
def test_a_bad_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        environment.read({name: value})
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("environ", "name", "source"),
    [
        (
            {"MODEL_NAME": "deepseek-ai/DeepSeek-OCR"},
            "deepseek-ocr",
            Source(hugging_face=HuggingFace(repo="deepseek-ai/DeepSeek-OCR")),
        ),
        ({"MODEL_NAME": "/models/DeepSeek-OCR-2/"}, "deepseek-ocr-2", Source(path="/models/DeepSeek-OCR-2/")),
        (
            {"LOCAL_MODEL_PATH": "/srv/My Model", "MODEL_NAME": "deepseek-ai/DeepSeek-OCR"},
            "my-model",
            Source(path="/srv/My Model"),
        ),
        ({"LOCAL_MODEL_PATH": "/"}, "model", Source(path="/")),
    ],
)
def test_a_model_may_be_named_by_the_environment(environ: dict[str, str], name: str, source: Source) -> None:
    model = environment.read(environ).named_model
    assert model is not None
    assert (model.name, model.engine, model.source) == (name, "transformers", source)
    assert parsing.parse_config(
        msgspec.json.encode(configuration.load(None, model)).decode()
    ) == configuration.load(None, model)


def test_a_file_wins_over_a_model_of_the_environment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("models: [{name: m, engine: fake}]")
    named = environment.read({"MODEL_NAME": "deepseek-ai/DeepSeek-OCR"}).named_model
    assert [model.name for model in configuration.load(file, named).models] == ["m"]
    assert "MODEL_NAME have no effect" in caplog.text
    assert environment.read({"MODEL_NAME": "", "LOCAL_MODEL_PATH": ""}).named_model is None
    assert configuration.load(None) == Config()
