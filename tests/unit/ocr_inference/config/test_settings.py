import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.config import environment, parsing
from ocr_inference.config.settings import (
    NEVER,
    Config,
    Idle,
    InvalidSettings,
    LiveSettings,
    digest,
    effective,
    quantity,
)

FILE = """
models:
  - {name: first, engine: rapidocr, idle: {exitAfterSeconds: 5}, priority: 3}
  - {name: second, engine: rapidocr}
idle: {releaseAfterSeconds: 9}
queue: {limit: 3}
"""


def live(values: str) -> LiveSettings:
    return parsing.parse_live(f'{{"generation": 1, "revision": 1, "values": {values}}}', ("first", "second"))


def test_defaults_are_those_of_the_resource() -> None:
    merged = effective(Config(), LiveSettings())
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
    assert effective(config, LiveSettings(), 12.0).models["first"].idle.offload_after_seconds == 12
    declared = live('{"idle": {"offloadAfterSeconds": 20}}')
    assert effective(config, declared, 12.0).models["first"].idle.offload_after_seconds == 20
    merged = effective(config, declared, 12.0, {"first": NEVER})
    assert merged.models["first"].idle.offload_after_seconds == NEVER
    assert merged.models["second"].idle.offload_after_seconds == 20


def test_the_echo_is_what_was_declared_and_no_more() -> None:
    sent = '{"idle": {"offloadAfterSeconds": 60.0}, "models": {"first": {}}}'
    echo = live(sent).to_json()
    assert echo["values"] == {"idle": {"offloadAfterSeconds": 60}, "models": {"first": {}}}
    assert '"offloadAfterSeconds": 60}' in json.dumps(echo)


def test_the_hash_is_fixed() -> None:
    assert digest({}) == "44136fa355b3678a"
    assert digest({"b": 1.0, "a": {"ü": [0.5, True]}}) == digest({"a": {"ü": [0.5, True]}, "b": 1})


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 10**6) | st.floats(0, 10**6) | st.booleans()))
def test_the_hash_ignores_order_and_the_kind_of_integral_numbers(values: dict[str, object]) -> None:
    turned = dict(reversed(values.items()))
    floats = {key: float(value) if type(value) is int else value for key, value in turned.items()}
    assert digest(values) == digest(turned) == digest(floats)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12Gi", 12 << 30),
        ("500M", 500_000_000),
        ("1.5Ki", 1536),
        ("1e3", 1000),
        ("1.5E2", 150),
        ("100m", 1),
        (4096, 4096),
        ("0", 0),
    ],
)
def test_quantities(text: str | int, number: int) -> None:
    assert quantity(text) == number


@pytest.mark.parametrize(
    "text", ["", "12 Gi", "-1", "Gi", "1Zi", "9E99", "1e999", "12GiB", "١Gi"[::-1], "0x1"]
)
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(InvalidSettings):
        quantity(text)


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
            "POD_NAME": "pod",
            "POD_UID": "uid",
        }
    )
    assert (settings.host, settings.port, settings.device) == ("127.0.1.2", 9000, "simulated")
    assert (settings.visible_devices, settings.gpu_idle_timeout) == ("GPU-1", NEVER)
    assert (str(settings.admin_token_file), settings.api_keys_file) == ("/a/token", None)
    assert (settings.pod_name, settings.pod_uid) == ("pod", "uid")


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
        ("OCR_DEVICE", "tpu"),
        ("FORCE_BACKEND", "mps"),
        ("GPU_IDLE_TIMEOUT", "soon"),
        ("GPU_IDLE_TIMEOUT", "nan"),
        ("GPU_IDLE_TIMEOUT", "-0.5"),
        ("OCR_DRAIN_SECONDS", "-1"),
        ("OCR_FORKSERVER", "maybe"),
    ],
)
def test_a_bad_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        environment.read({name: value})
    assert caught.value.param == name
