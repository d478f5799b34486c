"""A vision-language model on a real GPU: the same text in any company and after any cycle, and memory that is given
back. The checkpoint is tiny and random; what a CPU can't show is the device's part."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from ocr_inference.engines.transformers import checkpoints as opening
from ocr_inference.engines.transformers import engine as transformers
from ocr_inference.engines.transformers.engine import TransformersEngine
from ocr_inference.protocol.engine import Delta, Failure, FailureKind, InferRequest, ModelSpec, PageResult
from ocr_inference.protocol.host_tier import HostTier
from tests.support import checkpoints, greedy
from tests.support.engines import picture

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.make_deepseek_ocr(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def make(folder: Path, tmp_path: Path) -> Iterator[Callable[..., TransformersEngine]]:
    host = HostTier.create("gpu-test")
    made: list[TransformersEngine] = []

    def create(dtype: str = "float32", attention: str = "auto") -> TransformersEngine:
        spec = ModelSpec(
            name="m",
            engine="transformers",
            device="cuda",
            path=str(folder),
            cache_dir=str(tmp_path),
            dtype=dtype,
            attention=attention,
        )
        made.append(transformers.create(spec, host, lambda _: None))
        return made[-1]

    yield create
    for engine in made:
        engine.unload()
    host.close()


def requests() -> list[InferRequest]:
    return [
        InferRequest(
            image=greedy.page(300 + 40 * index, 400), task="document", resolution="tiny", max_tokens=limit
        )
        for index, limit in enumerate((40, 12, 25, 33))
    ]


def texts(engine: TransformersEngine, pages: list[InferRequest] | None = None) -> list[str]:
    results = engine.infer(requests() if pages is None else pages)
    assert all(isinstance(each, PageResult) for each in results), results
    return [each.text for each in results if isinstance(each, PageResult)]


def alone(engine: TransformersEngine) -> list[str]:
    """Page by page: in half precision, kernels round differently for different company, and company is chance."""
    return [texts(engine, [request])[0] for request in requests()]


@pytest.fixture(autouse=True)
def exact_convolutions() -> Iterator[None]:
    """In float32 they would be rounded to 10 bits, and not in the same way for every batch."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before


def test_pages_together_say_what_generate_says(make: Callable[..., TransformersEngine], folder: Path) -> None:
    engine = make()
    engine.load()
    opened = opening.open(folder, "float32", device="cuda", capability=torch.cuda.get_device_capability())
    model: Any = opened.converted()
    model.to("cuda")
    wanted = []
    for request in requests():
        inputs = opened.prepare(request)
        tensors = {
            name: value.to("cuda") if isinstance(value, torch.Tensor) else value
            for name, value in inputs.tensors.items()
        }
        wanted.append(opened.decode(greedy.write(model, replace(inputs, tensors=tensors), opened)))
    assert texts(engine) == wanted
    assert alone(engine) == wanted


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_cycles_change_nothing_and_leave_nothing_on_the_device(
    make: Callable[..., TransformersEngine], dtype: str
) -> None:
    engine = make(dtype)
    loaded = engine.load()
    assert loaded.device_bytes >= loaded.host_bytes // 2 > 0
    first = alone(engine)
    texts(engine)  # together, too, so that there is more to give back
    for _ in range(3):
        assert engine.offload().device_bytes == 0
        assert torch.cuda.memory_allocated() == torch.cuda.memory_reserved() == 0
        # What pages took on top of the weights is counted from now on.
        assert engine.restore().device_bytes >= loaded.device_bytes
        assert alone(engine) == first


def test_a_page_that_finds_no_memory_fails_alone_and_harms_nothing(
    make: Callable[..., TransformersEngine],
) -> None:
    engine = make()
    engine.load()
    wanted = texts(engine)
    free, total = torch.cuda.mem_get_info()
    # Not a byte more than what is taken now.
    torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_allocated() / total)
    try:
        torch.cuda.empty_cache()
        large = InferRequest(image=picture(2000, 3000), resolution="gundam", max_tokens=4)
        (result,) = engine.infer([large])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert isinstance(result, Failure)
    assert result.kind is FailureKind.OUT_OF_MEMORY
    assert texts(engine) == wanted
    assert engine.offload().device_bytes == 0
    assert torch.cuda.memory_allocated() == 0
    assert free > 0


def test_a_device_without_room_leaves_the_model_on_the_host(make: Callable[..., TransformersEngine]) -> None:
    engine = make()
    engine.load()
    wanted = texts(engine)
    engine.offload()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        with pytest.raises(MemoryError):
            engine.restore()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert torch.cuda.memory_allocated() == 0
    engine.restore()
    assert texts(engine) == wanted


def test_flash_attention_is_used_or_its_absence_explained(
    make: Callable[..., TransformersEngine], caplog: pytest.LogCaptureFixture
) -> None:
    engine = make("bfloat16", "flash_attention_2")
    with caplog.at_level("WARNING"):
        engine.load()
    attention = engine._weights.opened.attention
    assert (attention == "flash_attention_2") != ("flash" in caplog.text)
    assert all(texts(engine))


def test_a_clean_up_between_steps_empties_the_cache_and_changes_no_text(
    make: Callable[..., TransformersEngine],
) -> None:
    engine = make()
    engine.load()
    (wanted,) = engine.infer(requests()[:1])
    engine.admit(0, requests()[0])
    events = engine.step()
    while engine.free_slots < engine.max_batch:
        before = engine.device_use()
        engine.clean_up()
        after = engine.device_use()
        assert before is not None
        assert after is not None
        assert after.reserved_bytes <= before.reserved_bytes
        assert after.allocated_bytes <= before.allocated_bytes
        events = engine.step()
    (result,) = (event for _, event in events if isinstance(event, PageResult))
    assert isinstance(wanted, PageResult)
    assert result.text == wanted.text


def test_pieces_come_from_the_device_as_they_are_written(make: Callable[..., TransformersEngine]) -> None:
    engine = make()
    engine.load()
    wanted = texts(engine)
    for number, request in enumerate(requests()):
        engine.admit(number, request)
    pieces: dict[int, str] = dict.fromkeys(range(4), "")
    while engine.free_slots < engine.max_batch:
        for number, event in engine.step():
            if isinstance(event, Delta):
                pieces[number] += event.text
    assert list(pieces.values()) == wanted
