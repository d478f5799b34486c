"""What vLLM's log, answers and errors mean, and what it is asked: values in, values out."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ocr_inference.engines.vllm import answers, asking, command, log_words, opening
from ocr_inference.engines.vllm.answers import Unwell, Written
from ocr_inference.engines.vllm.command import Start
from ocr_inference.engines.vllm.log_words import Exit
from ocr_inference.engines.vllm.opening import Opened
from ocr_inference.families import CHAT, DEEPSEEK_OCR, chat, deepseek_ocr
from ocr_inference.protocol.engine import Delta, EngineError, FailureKind, InferRequest
from tests.support.engines import picture
from tests.support.vllmcontract import checkpoint

CHAT_MODEL = Opened(Path("/m"), CHAT, "glm_ocr", (7,), chat.GUARD, re.compile("<x>"), True)
DEEPSEEK = Opened(
    Path("/m"), DEEPSEEK_OCR, "deepseek_vl_v2", (1,), deepseek_ocr.GUARD, re.compile("<x>"), True
)


# --- its log --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "kind", "of_host", "says"),
    [
        (
            [
                "(EngineCore pid=7) ERROR 11-28 10:00:00 [core.py:9] torch.OutOfMemoryError: CUDA out of memory.",
                "(APIServer pid=6) RuntimeError: Engine core initialization failed. See root cause above.",
            ],
            FailureKind.OUT_OF_MEMORY,
            False,
            "torch.OutOfMemoryError: CUDA out of memory.",
        ),
        (
            [
                "WARNING 11-28 10:00:00 [vllm.py:1704] Enforce eager set, disabling torch.compile, CUDAGraphs, and",
                "ValueError: Available memory on node 0 (1.0/2.0 GiB) on startup is less than desired CPU memory",
            ],
            FailureKind.OUT_OF_MEMORY,
            True,
            "Available memory on node 0",
        ),
        (
            [
                "/opt/python: Error while finding module specification (ModuleNotFoundError: No module named 'vllm')"
            ],
            FailureKind.UNSUPPORTED,
            False,
            "OCR_VLLM_PYTHON=/opt/python has no vLLM",
        ),
        (
            [
                "RuntimeError: Failed to infer device type, please set the environment variable `VLLM_LOGGING_LEVEL",
            ],
            FailureKind.UNSUPPORTED,
            False,
            "OCR_VLLM_PYTHON=/opt/python finds no device",
        ),
        (
            ["  Value error, Model architectures ['Odd'] are not supported for now."],
            FailureKind.INVALID_CHECKPOINT,
            False,
            "Odd",
        ),
        (
            [
                "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
                "  Value error, User-specified max_model_len (9999) is greater than the derived max_model_len",
                "    For further information visit https://errors.pydantic.dev/2.12/v/value_error",
            ],
            FailureKind.INVALID_CHECKPOINT,
            False,
            "for ModelConfig Value error, User-specified max_model_len (9999) is greater than the derived",
        ),
        (
            [
                "ValueError: 2.0 GiB KV cache is needed, which is larger than the available KV cache memory (0.25 GiB)."
            ],
            FailureKind.UNSUPPORTED,
            False,
            "a larger kv_cache_gib, or a smaller max_context",
        ),
        (
            [
                "WARNING Failed to import from vllm._C: ModuleNotFoundError(\"No module named 'vllm._C'\")",
                "RuntimeError: it can't compute",
            ],
            FailureKind.FAILED,
            False,
            "it can't compute",
        ),
        (["INFO 11-28 all is well", ""], FailureKind.FAILED, False, "all is well"),
        ([], FailureKind.FAILED, False, "it said nothing"),
    ],
)
def test_a_failed_start_is_explained_by_its_last_lines(
    lines: Sequence[str], kind: FailureKind, of_host: bool, says: str
) -> None:
    on_gpu = kind is FailureKind.OUT_OF_MEMORY and not of_host
    failure = log_words.failed_start(Exit(1, lines), "/opt/python", on_gpu=on_gpu)
    assert (failure.kind, failure.of_host, failure.exit_code) == (kind, of_host, 1)
    assert says in failure.message


def test_an_end_that_was_not_asked_for_is_a_death_whatever_its_code() -> None:
    lines = [
        "INFO 11-28 out of memory for the cache",
        "EngineDeadError: see above",
        "RuntimeError: Worker failed",
        "bye",
    ]
    failure = log_words.died(Exit(0, lines), on_gpu=True)
    assert failure.kind is FailureKind.WORKER_DIED
    assert failure.message == "vLLM ended by itself, with exit code 0: RuntimeError: Worker failed"


@pytest.mark.parametrize(
    ("line", "on_gpu", "of_host"),
    [
        (
            "ERROR 11-28 10:00:09 [core.py:9] torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB",
            True,
            False,
        ),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes", True, True),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes", False, True),
    ],
)
def test_an_end_for_lack_of_memory_is_one_wherever_its_line_stands(
    line: str, on_gpu: bool, of_host: bool
) -> None:
    lines = ["ValueError: of a page before", f"(EngineCore pid=7) {line}", "RuntimeError: Worker failed"]
    failure = log_words.died(Exit(0, lines), on_gpu=on_gpu)
    assert (failure.kind, failure.of_host) == (FailureKind.OUT_OF_MEMORY, of_host)
    assert line.rpartition("] ")[2] in failure.message


def test_stages_of_a_start() -> None:
    assert (
        log_words.stage("INFO [default_loader.py:501] Loading weights took 0.01 seconds")
        == "weights are loaded"
    )
    assert log_words.stage("INFO [launcher.py:186] Available routes are:") is None


# --- its answers ----------------------------------------------------------------------------------------------


def line(**chunk: Any) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n"


def test_a_stream_is_pieces_and_counts() -> None:
    written = Written()
    lines = [
        line(
            choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}], usage={"prompt_tokens": 90}
        ),
        b"\n",
        line(choices=[{"delta": {"content": "a"}}], usage={"prompt_tokens": 90, "completion_tokens": 1}),
        line(
            choices=[{"delta": {"content": "b"}, "finish_reason": "length"}],
            usage={"prompt_tokens": 90, "completion_tokens": 2},
        ),
        line(choices=[], usage={"prompt_tokens": 90, "completion_tokens": 2}),
        b"data: [DONE]\n",
    ]
    assert [piece for each in lines if (piece := written.take(each)) is not None] == [
        Delta(text="a", prompt_tokens=90, completion_tokens=1),
        Delta(text="b", prompt_tokens=90, completion_tokens=2),
    ]
    assert ("".join(written.text), written.finish_reason) == ("ab", "length")


def test_the_token_that_ends_an_answer_is_none_of_it() -> None:
    written = Written()
    written.take(
        line(choices=[{"delta": {"content": "a"}}], usage={"prompt_tokens": 9, "completion_tokens": 1})
    )
    end = [{"delta": {"content": ""}, "finish_reason": "stop"}]
    assert written.take(line(choices=end, usage={"prompt_tokens": 9, "completion_tokens": 2})) is None
    written.take(line(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 2}))
    assert (written.completion_tokens, written.finish_reason) == (1, "stop")


@pytest.mark.parametrize(
    "sent",
    [
        line(error={"message": "EngineCore died"}),
        b"data: {half\n",
        line(choices=[{"delta": {"content": "half"}, "finish_reason": "abort"}]),
    ],
)
def test_an_error_within_a_stream_is_the_servers(sent: bytes) -> None:
    with pytest.raises(Unwell):
        Written().take(sent)


def test_refusals_are_told_from_a_server_that_fails() -> None:
    too_long = answers.refused(400, b'{"error": {"message": "prompt of 9 tokens", "param": "input_tokens"}}')
    assert (too_long.kind, too_long.param) == (FailureKind.UNSUPPORTED, "resolution")
    assert "9 tokens" in too_long.message
    assert answers.refused(400, b"Bad Request").message == "the model can't take this page: status 400"
    assert answers.refused(404, b'{"error": {"message": "no model"}}').kind is FailureKind.FAILED
    with pytest.raises(Unwell, match="engine"):
        answers.refused(500, b'{"error": {"message": "engine"}}')


# --- what it is asked -----------------------------------------------------------------------------------------


def asked(opened: Opened, **options: Any) -> dict[str, Any]:
    request = InferRequest(image=picture(), **options)
    found = asking.ask(opened, request, 4096)
    body = json.loads(found.body)
    assert isinstance(body, dict)
    return body


def test_prompts_are_those_of_the_families() -> None:
    def text(opened: Opened, **options: Any) -> str:
        return str(asked(opened, **options)["messages"][0]["content"][1]["text"])

    assert text(CHAT_MODEL, task="ocr") == "Text Recognition:"
    assert text(CHAT_MODEL, task="freeform", prompt="what <x>is it?") == "what is it?"
    # vLLM puts the picture's mark and a line's end before it.
    assert text(DEEPSEEK, task="document") == "<|grounding|>Convert the document to markdown."
    assert text(DEEPSEEK, task="freeform", prompt="\nread <image>it") == "read it"


def test_a_request_is_greedy_bounded_and_guarded() -> None:
    body = asked(DEEPSEEK, task="document")
    assert (body["temperature"], body["max_tokens"], body["stop_token_ids"]) == (0, 4096, [1])
    guard = {"ngram_size": 30, "window_size": 90, "whitelist_token_ids": [128821, 128822]}
    assert body["vllm_xargs"] == guard
    assert body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    free = asked(CHAT_MODEL, max_tokens=9, loop_guard=False)
    assert free["max_tokens"] == 9
    assert "vllm_xargs" not in free


def test_a_page_is_scaled_where_memory_ran_out() -> None:
    found = asking.ask(CHAT_MODEL, InferRequest(image=picture(200, 100), read_at="100px"), 10)
    assert (found.width, found.height, found.read_at) == (200, 100, "100px")
    assert asking.ask(CHAT_MODEL, InferRequest(image=picture(80, 40), read_at="100px"), 10).read_at is None


@pytest.mark.parametrize("wrong", [{"resolution": "tiny"}, {"parts": ((0, 1), (1, 1))}])
def test_what_deepseek_ocr_can_not_be_asked_here_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(EngineError) as error:
        asked(DEEPSEEK, **wrong)
    assert error.value.failure.kind is FailureKind.UNSUPPORTED


# --- checkpoints ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "generation", "ids"),
    [
        ({"eos_token_id": 3}, {}, (3,)),
        ({"eos_token_id": 3, "text_config": {"eos_token_id": [5, 4]}}, {}, (4, 5)),
        ({"eos_token_id": 3}, {"eos_token_id": [9, 9]}, (9,)),
        ({}, {}, ()),
    ],
)
def test_ends_of_answers(config: dict[str, Any], generation: dict[str, Any], ids: tuple[int, ...]) -> None:
    assert opening.eos_ids(config, generation) == ids


def test_an_odd_end_of_answers_is_named() -> None:
    with pytest.raises(EngineError, match="eos_token_id"):
        opening.eos_ids({"eos_token_id": "no"}, {})


def test_a_folder_is_opened_by_its_small_files(tmp_path: Path) -> None:
    found = opening.open(checkpoint(tmp_path))
    assert (found.family.name, found.model_type) == ("chat", "qwen2_5_vl")
    assert found.guard.allowed == frozenset({1}), "the tag of a cell"
    assert found.marks.sub("", "a<|im_end|>b") == "ab"


BOTH: dict[str, Any] = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@pytest.mark.parametrize(
    ("processor", "preprocessor", "says"),
    [
        ({}, {}, False),
        ({}, {"image_mean": [0.5] * 3}, False),
        ({}, {"do_normalize": True}, False),
        ({}, {"image_mean": None, "image_std": None}, False),
        ({"image_processor": BOTH}, {"image_mean": None, "image_std": None}, True),
        ({}, BOTH, True),
        ({"image_processor": BOTH}, {}, True),
        ({"image_processor": "odd"}, BOTH, True),
        ({"image_processor": {"do_rescale": True}}, BOTH, False),
    ],
)
def test_whether_files_say_how_pixels_are_normalised(
    tmp_path: Path, processor: dict[str, Any], preprocessor: dict[str, Any], says: bool
) -> None:
    folder = checkpoint(tmp_path)
    (folder / "processor_config.json").write_text(json.dumps(processor))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    assert opening.open(folder).says_normalisation is says


@pytest.mark.parametrize(
    ("file", "says"), [("tokenizer.json", "can't be read"), ("chat_template.json", "is missing")]
)
def test_a_folder_that_lacks_what_vllm_would_miss_after_minutes_is_refused(
    tmp_path: Path, file: str, says: str
) -> None:
    (checkpoint(tmp_path) / file).unlink()
    with pytest.raises(EngineError, match=says):
        opening.open(tmp_path)


# --- its start ------------------------------------------------------------------------------------------------

START = Start(
    python="/opt/python",
    checkpoint=Path("/m"),
    folder=Path("/tmp/s"),
    cache=Path("/c"),
    device="cuda",
    gpu_uuid="GPU-1",
    dtype="auto",
    max_batch=8,
    max_context=0,
    kv_cache_gib=0.5,
    eager=False,
    threads=2,
    says_normalisation=True,
)


def test_a_gpu_has_sleep_and_a_cpu_has_not() -> None:
    words = command.command(START)
    assert {"--enable-sleep-mode", "--gpu-memory-utilization"} <= set(words)
    assert "--enforce-eager" not in words
    assert words[words.index("--kv-cache-memory-bytes") + 1] == str(1 << 29)
    on_cpu = command.command(replace(START, device="cpu"))
    assert "--enable-sleep-mode" not in on_cpu
    assert "--enforce-eager" in on_cpu


def test_pixels_are_normalised_on_the_host_where_the_files_leave_it_to_the_processor() -> None:
    assert "--no-mm-device-do-normalize" not in command.command(START)
    assert "--no-mm-device-do-normalize" in command.command(replace(START, says_normalisation=False))


def test_the_environment_has_no_secrets_and_nothing_of_our_python() -> None:
    environ = {
        "PATH": "/bin",
        "PYTHONPATH": "/ours",
        "HF_TOKEN": "hf_x",
        "VLLM_API_KEY": "x",
        "VLLM_S3_SECRET": "x",
        "VLLM_MIRROR": "https://user:hunter22@mirror",
        "VLLM_LOGGING_LEVEL": "DEBUG",
        "GOMP_SPINCOUNT": "1000",
        "HF_ENDPOINT": "http://hub",
    }
    found = command.environment(START, environ)
    assert not {"PYTHONPATH", "HF_TOKEN", "VLLM_API_KEY", "HF_ENDPOINT"} & found.keys()
    assert not {"VLLM_S3_SECRET", "VLLM_MIRROR"} & found.keys()
    assert (found["PATH"], found["VLLM_LOGGING_LEVEL"]) == ("/bin", "DEBUG")
    assert found["GOMP_SPINCOUNT"] == "1000"  # what workers spin, its threads do
    assert (found["CUDA_VISIBLE_DEVICES"], found["HF_HUB_OFFLINE"], found["HOME"]) == ("GPU-1", "1", "/c")
