"""The engine `vllm` with vLLM itself, for CPUs, in the environment of `make init-vllm` or that OCR_VLLM_PYTHON names.

One server reads all pages, since it takes a minute or more to start; the last test ends it.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra `transformers`")

from ocr_inference import engines
from ocr_inference.engines.vllm.engine import VllmEngine
from ocr_inference.protocol.engine import Engine, InferRequest, ModelSpec, PageResult
from ocr_inference.protocol.host_tier import HostTier
from tests.support import chatmodels, greedy
from tests.support.enginesuite import answer
from tests.support.paths import ROOT
from tests.support.vllmcontract import VllmContract, ends_with_everything

PYTHON = os.environ.get("OCR_VLLM_PYTHON") or str(ROOT / ".venv-vllm/bin/python")
SIZES = {
    "text_config": {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
}
"""Heads of vLLM's attention on a CPU have 32 numbers at least."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.access(PYTHON, os.X_OK), reason="no vLLM here: `make init-vllm`"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded one of a type that both engines have; no choice of a token that tests see is closer than 0.003."""
    folder = tmp_path_factory.mktemp("checkpoint")
    return chatmodels.make(folder, "lighton_ocr", seed=0, sizes=SIZES, tie_word_embeddings=False)


@contextlib.contextmanager
def loaded(engine: str, checkpoint: Path, cache: Path, **options: bool | float | str) -> Iterator[Engine]:
    host = HostTier.create("m")
    spec = ModelSpec(name="m", engine=engine, path=str(checkpoint), cache_dir=str(cache), options=options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCR_VLLM_PYTHON", PYTHON)
        found = engines.create(spec, host)
    try:
        found.load()
        yield found
    finally:
        found.unload()
        host.close()


@pytest.fixture(scope="module")
def ready(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    cache = tmp_path_factory.mktemp("cache")
    with loaded("vllm", checkpoint, cache, max_batch=8, kv_cache_gib=0.5, threads=1) as engine:
        assert isinstance(engine, VllmEngine)
        yield engine


@pytest.mark.timeout(600)
class TestItself(VllmContract):
    tells_apart = False


@pytest.mark.timeout(600)
@pytest.mark.parametrize("loop_guard", [True, False])
def test_pages_say_the_same_as_with_the_engine_transformers(
    ready: VllmEngine, checkpoint: Path, tmp_path: Path, loop_guard: bool
) -> None:
    """The same text, of as many tokens, long enough for the loop guard: the model repeats itself.

    The page has the model's own size: it is resized by other libraries, whose pixels differ in the last place.
    """
    page = greedy.page(224, 308)
    asked = [
        InferRequest(image=page, task=task, max_tokens=160, loop_guard=loop_guard)
        for task in ("document", "figure")
    ]
    with loaded("transformers", checkpoint, tmp_path) as other:
        wanted = [answer(other, each) for each in asked]
    found = ready.infer(asked)
    for read, same in zip(found, wanted, strict=True):
        assert isinstance(read, PageResult), read
        assert read.text == same.text
        assert (read.prompt_tokens, read.completion_tokens) == (same.prompt_tokens, same.completion_tokens)
        assert (read.finish_reason, read.width, read.height) == (same.finish_reason, same.width, same.height)


@pytest.mark.timeout(600)
def test_pixels_are_the_same_where_the_files_leave_their_normalisation_to_the_processor(
    tmp_path: Path,
) -> None:
    folder = chatmodels.make(
        tmp_path / "m", "qwen2_5_vl", seed=0, sizes=chatmodels.WIDE_HEADS, tie_word_embeddings=False
    )
    asked = InferRequest(image=greedy.page(168, 252), task="document", max_tokens=20)
    with loaded("transformers", folder, tmp_path) as other:
        wanted = answer(other, asked)
    with loaded("vllm", folder, tmp_path / "cache", max_batch=1, kv_cache_gib=0.5, threads=1) as engine:
        found = answer(engine, asked)
    # A character that the last token begins is replaced by one engine and left out by the other.
    assert found.text == wanted.text.rstrip("\ufffd")
    assert (found.prompt_tokens, found.completion_tokens) == (wanted.prompt_tokens, wanted.completion_tokens)


@pytest.mark.timeout(600)
def test_a_server_whose_computing_process_dies_is_broken_and_leaves_nothing(ready: VllmEngine) -> None:
    before = set(os.listdir("/dev/shm"))
    ends_with_everything(ready)
    assert set(os.listdir("/dev/shm")) <= before
