"""The engine of vision-language models on tiny checkpoints: the right text in any company, and what goes wrong."""

import functools
import gc
import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from pathlib import Path
from typing import Any, Literal

import pytest
from msgspec import structs

pytest.importorskip("torch", reason="needs the extra `transformers`")

import torch

from ocr_inference import engines
from ocr_inference.engines.transformers import checkpoints as opening
from ocr_inference.engines.transformers import engine as transformers
from ocr_inference.engines.transformers import errors, generation, memory
from ocr_inference.engines.transformers import page as preparing
from ocr_inference.engines.transformers.engine import TransformersEngine
from ocr_inference.protocol.engine import (
    Broken,
    Delta,
    EngineError,
    Event,
    Failure,
    FailureKind,
    InferRequest,
    ModelSpec,
    PageResult,
    Progress,
    Shortage,
    SteppingEngine,
)
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.protocol.memory_use import DeviceUse
from tests.support import chatmodels, greedy
from tests.support.engines import picture
from tests.support.paths import ROOT

pytestmark = [
    pytest.mark.long,
    # Processors of transformers hand Pillow's pictures to numpy in a way that numpy will drop.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

KINDS = sorted(greedy.CASES)
QUICK = "lighton_ocr"
"""The kind that reads a page fastest."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Such small models compute no faster with more, and tests run beside others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A checkpoint of a kind, made once."""
    return greedy.made_once(tmp_path_factory.mktemp("checkpoints"))


class Bench:
    """Engines of one model, with its host tier."""

    def __init__(self, path: Path, cache: Path, device: Any = "simulated", **options: Any) -> None:
        self.host = HostTier.create("test")
        self.reports: list[Progress] = []
        self.spec = ModelSpec(
            name="m",
            engine="transformers",
            device=device,
            path=str(path),
            cache_dir=str(cache),
            options={"threads": 1, **options},
        )

    def engine(self) -> TransformersEngine:
        return transformers.create(self.spec, self.host, self.reports.append)

    def digest(self) -> str:
        return hashlib.sha256(Path(self.host.path).read_bytes()).hexdigest()


@pytest.fixture
def bench(folder: Callable[[str], Path], tmp_path: Path) -> Callable[..., Bench]:
    def make(kind: str = QUICK, **arguments: Any) -> Bench:
        return Bench(folder(kind), tmp_path, **arguments)

    return make


def ask(width: int = 60, height: int = 40, color: str = "red", **fields: Any) -> InferRequest:
    return InferRequest(image=picture(width, height, color), **{"task": "free", "max_tokens": 12, **fields})


def pages(kind: str) -> list[InferRequest]:
    """Of different sizes, tasks and lengths."""
    tiny: dict[str, Any] = {"resolution": "small"} if kind.startswith("deepseek") else {}
    return [
        ask(**tiny),
        InferRequest(image=greedy.page(300, 400), task="document", max_tokens=30, **tiny),
        ask(200, 90, "blue", max_tokens=5, **tiny),
        ask(90, 200, "green", max_tokens=20, loop_guard=False, **tiny),
        InferRequest(image=greedy.page(200, 150), task="freeform", prompt="Read it.", max_tokens=17, **tiny),
    ]


def expected(path: Path, requests: Sequence[InferRequest]) -> list[tuple[str, str]]:
    """Texts and why they end, by transformers' own `generate`, a page at a time."""
    opened = opening.open(path)
    model = opened.converted()
    found = []
    for request in requests:
        ids = greedy.write(model, opened.prepare(request), opened)
        ended = bool(ids) and ids[-1] in opened.eos_ids
        found.append((opened.decode(ids), "stop" if ended else "length"))
    return found


def told(results: Sequence[PageResult | Failure]) -> list[tuple[str, str]]:
    assert all(isinstance(each, PageResult) for each in results), results
    return [(each.text, each.finish_reason) for each in results if isinstance(each, PageResult)]


# --- the right text -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_together_alone_and_after_any_cycle_it_writes_what_generate_writes(
    kind: str, folder: Callable[[str], Path], bench: Callable[..., Bench]
) -> None:
    requests = pages(kind)
    wanted = expected(folder(kind), requests)
    made = bench(kind)
    engine = made.engine()
    engine.load()
    digest = made.digest()
    assert told(engine.infer(requests)) == wanted
    assert told([engine.infer([request])[0] for request in requests]) == wanted
    for _ in range(2):
        assert engine.offload().device_bytes == 0
        engine.restore()
        assert told(engine.infer(requests[:2])) == wanted[:2]
    engine.offload()
    successor = made.engine()
    successor.restore()
    assert told(successor.infer(requests)) == wanted
    standby = made.engine()
    assert standby.stand_by().device_bytes == 0
    standby.restore()
    assert told(standby.infer(requests[:2])) == wanted[:2]
    assert made.digest() == digest


class Passes:
    """Notes the passes of the decoder, and how many prompts each reads in."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.prompts: list[int] = []
        self.kinds: list[str] = []
        decoder: Any = engine._weights.opened.model.base_model.language_model
        decoder.register_forward_pre_hook(self.note, with_kwargs=True)

    def note(self, module: object, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        rows, length = named["inputs_embeds"].shape[:2]
        self.kinds.append("step" if length == 1 else "prompt")
        if length > 1:
            self.prompts.append(rows)


def prepared(engine: TransformersEngine, requests: Sequence[InferRequest]) -> None:
    """Admit pages, and wait until all are prepared."""
    for number, request in enumerate(requests):
        engine.admit(number, request)
    wait([page.job for page in engine._pages.values()])


def least(kind: str) -> dict[str, Any]:
    """The smallest size of models whose views have fixed ones."""
    sizes = {"deepseek_ocr": "tiny", "deepseek_ocr2": "small"}
    return {"resolution": sizes[kind]} if kind in sizes else {}


def finished(engine: TransformersEngine) -> list[PageResult | Failure]:
    results = {number: event for number, event in stepped(engine, {}) if not isinstance(event, Delta)}
    return [results[number] for number in sorted(results)]


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_of_one_shape_are_read_in_together(
    kind: str, folder: Callable[[str], Path], bench: Callable[..., Bench]
) -> None:
    tiny = least(kind)
    requests = [
        ask(color=color, max_tokens=length, **tiny)
        for color, length in (("red", 9), ("blue", 1), ("green", 14))
    ]
    requests.insert(1, ask(color="black", prompt="Of another length.", task="freeform", **tiny))
    engine = bench(kind).engine()
    engine.load()
    passes = Passes(engine)
    prepared(engine, requests)
    results = finished(engine)
    assert told(results) == expected(folder(kind), requests)
    together = 1
    if generation.unfit(engine._weights.opened.model) is None:
        assert isinstance(results[0], PageResult)
        together = min(3, generation.MOST_TOGETHER // results[0].prompt_tokens)
    assert (max(passes.prompts), sum(passes.prompts)) == (together, 4)


def refusing_once(model: Any, error: Exception) -> tuple[Callable[..., object], list[int]]:
    """Return the tower's function as one that raises the error at its first call, and a list that has a 1 from then."""
    encode, raised = model.get_image_features, list[int]()

    @functools.wraps(encode)
    def refuse_once(*arguments: object, **named: object) -> object:
        if not raised:
            raised.append(1)
            raise error
        return encode(*arguments, **named)

    return refuse_once, raised


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_that_were_not_encoded_together_are_read_in_together(
    kind: str, folder: Callable[[str], Path], bench: Callable[..., Bench]
) -> None:
    tiny = least(kind)
    requests = [ask(color=color, max_tokens=9, **tiny) for color in ("red", "blue")]
    engine = bench(kind).engine()
    engine.load()
    model: Any = engine._weights.opened.model
    refuse_once, refused = refusing_once(model, RuntimeError("as the test wants"))
    model.get_image_features = refuse_once
    passes = Passes(engine)
    prepared(engine, requests)
    assert told(finished(engine)) == expected(folder(kind), requests)
    takes_features = "mm_encoder_outputs" in inspect.signature(model.forward).parameters
    assert refused == [1] * takes_features
    assert max(passes.prompts) == (2 if generation.unfit(model) is None else 1)


class Towers:
    """Counts the passes of a model's vision tower."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.count = 0
        model: Any = engine._weights.opened.model
        for each in (model, model.base_model):
            if hasattr(each, "get_image_features"):
                each.get_image_features = self.counted(each.get_image_features)
        self._inside = False

    def counted(self, encode: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(encode)
        def pass_on(*arguments: object, **named: object) -> object:
            outer, self._inside = not self._inside, True
            self.count += outer
            try:
                return encode(*arguments, **named)
            finally:
                self._inside = not outer

        return pass_on


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_that_is_asked_again_is_not_encoded_again(
    kind: str, folder: Callable[[str], Path], bench: Callable[..., Bench]
) -> None:
    """By another task, with the same and other company, until an offload; the answers are `generate`'s."""
    tiny = least(kind)
    requests = [
        ask(max_tokens=9, **tiny),
        ask(task="document", max_tokens=9, **tiny),
        ask(color="blue", max_tokens=9, **tiny),
    ]
    wanted = expected(folder(kind), requests)
    engine = bench(kind).engine()
    engine.load()
    model = engine._weights.opened.model
    if "mm_encoder_outputs" not in inspect.signature(model.forward).parameters:
        assert told(engine.infer(requests)) == wanted
        return
    towers = Towers(engine)
    assert told(engine.infer(requests[:1])) == wanted[:1]
    assert told(engine.infer(requests)) == wanted
    assert towers.count == 2, "the first picture, and the blue one"
    assert engine._features.nbytes > 0
    engine.clean_up()
    assert engine._features.nbytes == 0
    assert told(engine.infer(requests[:2])) == wanted[:2]
    assert towers.count == 3
    engine.offload()
    assert engine._features.nbytes == 0
    engine.restore()
    towers = Towers(engine)
    assert told(engine.infer(requests[:1])) == wanted[:1]
    assert towers.count == 1


def test_a_tower_that_refuses_a_lone_page_costs_neither_it_nor_the_one_that_is_written(
    folder: Callable[[str], Path], bench: Callable[..., Bench]
) -> None:
    requests = [ask(), ask(color="blue")]
    engine = bench().engine()
    engine.load()
    model: Any = engine._weights.opened.model
    missing = TypeError("missing 1 required positional argument: 'image_merge_sizes'")
    refuse_once, refused = refusing_once(model, missing)
    events = begun(engine, 0, requests[0])
    model.get_image_features = refuse_once
    events += stepped(engine, {1: requests[1]})
    results = {number: event for number, event in events if not isinstance(event, Delta)}
    assert refused
    assert told([results[0], results[1]]) == expected(folder(QUICK), requests)


def test_without_a_cache_each_page_is_encoded(bench: Callable[..., Bench]) -> None:
    engine = bench(vision_cache_mib=0).engine()
    engine.load()
    towers = Towers(engine)
    for _ in range(2):
        assert told(engine.infer([ask()]))
    assert towers.count == 2
    assert engine._features.nbytes == 0


def test_pages_that_are_written_go_on_between_long_prompts(bench: Callable[..., Bench]) -> None:
    engine = bench().engine()
    engine.load()
    passes = Passes(engine)
    long = [ask(task="freeform", prompt=f"{number}" * 800, max_tokens=4) for number in range(4)]
    prepared(engine, long)
    engine.step()
    engine.step()
    assert passes.kinds == ["prompt", "prompt", "step"] * 2
    assert kinds(finished(engine)) == ["page"] * 4


def two(**fields: Any) -> InferRequest:
    """Two pictures in one file, with other bytes around them."""
    first, second = picture(60, 40, "red"), picture(90, 120, "blue")
    asked: dict[str, Any] = {"task": "freeform", "prompt": "Compare.", "max_tokens": 12, **fields}
    file = b"other" + first + b"between" + second + b"rest"
    places = (5, len(first)), (5 + len(first) + 7, len(second))
    return InferRequest(image=file, parts=places, **asked)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", QUICK])
def test_several_pictures_are_read_together_where_the_model_takes_them(
    kind: str, folder: Callable[[str], Path], bench: Callable[..., Bench]
) -> None:
    opened = opening.open(folder(kind))
    alone = [
        opened.prepare(ask(*size, color, task="freeform", prompt="Compare."))
        for size, color in (((60, 40), "red"), ((90, 120), "blue"))
    ]
    both = opened.prepare(two())
    assert (both.width, both.height) == (60, 40)
    assert both.prompt_tokens > max(each.prompt_tokens for each in alone)
    engine = bench(kind).engine()
    engine.load()
    requests = [two(), ask(), two()]
    assert told(engine.infer(requests)) == expected(folder(kind), [two(), ask(), two()])


def test_several_pictures_are_refused_by_models_made_for_one(folder: Callable[[str], Path]) -> None:
    with pytest.raises(EngineError, match="one picture at a time") as caught:
        opening.open(folder("deepseek_ocr")).prepare(two())
    assert (caught.value.failure.kind, caught.value.failure.param) == (FailureKind.UNSUPPORTED, "file")


def test_the_limit_of_pixels_is_that_of_all_pictures_together(folder: Callable[[str], Path]) -> None:
    opened = opening.open(folder(QUICK))
    opened.prepare(two(max_pixels=60 * 40 + 90 * 120))
    with pytest.raises(EngineError) as caught:
        opened.prepare(two(max_pixels=60 * 40 + 90 * 120 - 1))
    assert caught.value.failure.kind == FailureKind.IMAGE_TOO_LARGE


def stepped(engine: TransformersEngine, requests: Mapping[int, InferRequest]) -> list[Event]:
    for number, request in requests.items():
        engine.admit(number, request)
    events: list[Event] = []
    while engine.free_slots < engine.max_batch:
        events += engine.step()
    return events


def begun(engine: TransformersEngine, number: int, request: InferRequest) -> list[Event]:
    """What happens until the page has its first piece."""
    engine.admit(number, request)
    events: list[Event] = []
    while not any(each == number and isinstance(event, Delta) for each, event in events):
        events += engine.step()
    return events


def test_pieces_add_up_to_the_text_and_count_its_tokens(bench: Callable[..., Bench]) -> None:
    engine = bench().engine()
    assert isinstance(engine, SteppingEngine)
    engine.load()
    requests = dict(enumerate(pages(QUICK), start=7))
    events = stepped(engine, requests)
    for number in requests:
        *pieces, result = [event for each, event in events if each == number]
        assert isinstance(result, PageResult)
        deltas = [piece for piece in pieces if isinstance(piece, Delta)]
        assert len(deltas) == len(pieces) > 1
        assert "".join(delta.text for delta in deltas) == result.text
        assert [delta.completion_tokens for delta in deltas] == sorted({d.completion_tokens for d in deltas})
        assert deltas[-1].completion_tokens == result.completion_tokens > 0
        assert {delta.prompt_tokens for delta in deltas} == {result.prompt_tokens}
        assert (result.family, result.prompt_tokens > 20) == ("chat", True)


def test_pages_come_and_go_while_others_are_written(bench: Callable[..., Bench]) -> None:
    engine = bench(max_batch=3).engine()
    engine.load()
    requests = pages(QUICK)
    alone = [engine.infer([request])[0] for request in requests]
    engine.admit(0, requests[1])
    engine.admit(1, requests[3])
    while not any(isinstance(event, Delta) for _, event in engine.step()):
        pass
    engine.admit(2, requests[4])
    assert engine.free_slots == 0
    engine.cancel(1)
    engine.cancel(99)
    events = stepped(engine, {3: requests[2]})
    results = {number: event for number, event in events if not isinstance(event, Delta)}
    assert told([results[0], results[2], results[3]]) == told([alone[1], alone[4], alone[2]])
    assert 1 not in {number for number, _ in events}


def test_a_clean_up_between_steps_changes_no_text(bench: Callable[..., Bench]) -> None:
    engine = bench().engine()
    engine.load()
    wanted = told(engine.infer([pages(QUICK)[1]]))
    events = begun(engine, 1, pages(QUICK)[1])
    while engine.free_slots < engine.max_batch:
        engine.clean_up()
        events += engine.step()
    assert told([event for _, event in events if not isinstance(event, Delta)]) == wanted


def test_a_page_that_is_cancelled_before_it_begins_leaves_nothing(bench: Callable[..., Bench]) -> None:
    engine = bench().engine()
    engine.load()
    engine.admit(0, ask())
    engine.cancel(0)
    assert engine.free_slots == engine.max_batch
    assert engine.step() == []


def test_a_plain_cpu_reads_from_the_host_tier_itself(bench: Callable[..., Bench]) -> None:
    made = bench(device="cpu")
    engine = made.engine()
    loaded = engine.load()
    assert (loaded.device_bytes, loaded.host_bytes) == (0, made.host.size)
    first = told(engine.infer([ask()]))
    engine.offload()
    engine.restore()
    assert told(engine.infer([ask()])) == first


def test_host_memory_is_hardly_more_than_the_weights(bench: Callable[..., Bench]) -> None:
    made = bench("deepseek_ocr")
    loaded = made.engine().load()
    model = opening.open(Path(made.spec.path or "")).model
    weights = sum(each.numel() * each.element_size() for each in (*model.parameters(), *model.buffers()))
    assert weights <= loaded.host_bytes <= 1.02 * weights
    assert loaded.device_bytes <= loaded.host_bytes


def test_a_converted_checkpoint_is_converted_once(bench: Callable[..., Bench]) -> None:
    made = bench("deepseek_ocr")
    engine = made.engine()
    engine.load()
    assert {report.phase for report in made.reports} >= {"converting"}
    first, digest = told(engine.infer([ask(resolution="tiny")])), made.digest()
    engine.unload()
    assert made.host.size == 0
    made.reports.clear()
    again = made.engine()
    again.load()
    phases = {report.phase for report in made.reports}
    assert "converting" not in phases
    assert "reading" in phases
    assert (told(again.infer([ask(resolution="tiny")])), made.digest()) == (first, digest)


def test_a_weight_image_that_can_not_be_kept_fails_no_load(
    bench: Callable[..., Bench], tmp_path: Path
) -> None:
    """A file in the place of the cache's folder stands in for a disk that is full or can't be written."""
    (tmp_path / "images").write_text("in the way")
    made = bench("deepseek_ocr")
    for _ in range(2):
        engine = made.engine()
        failure = engine.load().image_failure
        assert failure is not None
        assert "the next load converts again: weight image" in failure.message
        assert told(engine.infer([ask(resolution="tiny")]))
        engine.unload()
    (tmp_path / "images").unlink()
    assert made.engine().load().image_failure is None
    converted = [report.done_bytes for report in made.reports if report.phase == "converting"]
    assert len(set(converted)) > 3, "it is seen to get on"


# --- memory that is short -------------------------------------------------------------------------------------


def free(gib: float) -> DeviceUse:
    """A device with so much memory, a GiB of it in the process's own cache."""
    allocated = 3 << 30
    return DeviceUse(
        allocated_bytes=allocated, reserved_bytes=allocated + (1 << 30), free_bytes=int((gib - 1) * (1 << 30))
    )


def sized(width: int, height: int) -> InferRequest:
    return InferRequest(image=picture(width, height), task="free", max_tokens=2)


@pytest.mark.parametrize(
    ("gib", "read_at"), [(5.9, "1536px"), (7.9, "2048px"), (11.9, "3072px"), (12.0, None)]
)
def test_a_page_is_no_larger_than_free_memory_allows(
    folder: Callable[[str], Path], tmp_path: Path, gib: float, read_at: str | None
) -> None:
    shutil.copytree(folder("qwen2_5_vl"), tmp_path / "large")
    file = tmp_path / "large" / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "max_pixels": 12_845_056}))  # as published
    opened = opening.open(tmp_path / "large")
    whole = preparing.prepare(opened, sized(3500, 200), None)
    inputs = preparing.prepare(opened, sized(3500, 200), free(gib))
    assert (inputs.width, inputs.height) == (3500, 200), "the page's own pixels"
    assert inputs.read_at == read_at
    assert (inputs.prompt_tokens < whole.prompt_tokens) == (read_at is not None)
    if read_at is not None:
        why = f"{gib:.1f} GiB of GPU memory were free when the page began"
        assert inputs.shortage == Shortage(read_at=read_at, why=why)
        named = structs.replace(sized(3500, 200), resolution="gundam")
        assert preparing.prepare(opened, named, free(gib)).prompt_tokens == whole.prompt_tokens


def test_a_page_that_is_small_enough_is_read_as_it_is(folder: Callable[[str], Path]) -> None:
    inputs = preparing.prepare(opening.open(folder(QUICK)), sized(1536, 100), free(2))
    assert (inputs.read_at, inputs.shortage) == (None, None)


def test_views_of_fixed_sizes_are_not_bounded_by_free_memory(folder: Callable[[str], Path]) -> None:
    opened = opening.open(folder("deepseek_ocr"))
    whole = preparing.prepare(opened, sized(4000, 3000), None)
    bounded = preparing.prepare(opened, sized(4000, 3000), free(2))
    assert (bounded.prompt_tokens, bounded.shortage) == (whole.prompt_tokens, None)


def test_smaller_sizes_are_those_that_the_model_was_trained_on(folder: Callable[[str], Path]) -> None:
    opened = opening.open(folder("deepseek_ocr"))
    whole = opened.prepare(ask())
    assert opened.smaller(ask(), whole) == opened.smaller(ask(), None) == ("base", "small", "tiny")
    assert opened.smaller(ask(read_at="small"), None) == ("tiny",)
    assert opened.smaller(ask(resolution="base"), None) == ("small", "tiny")
    small, named = opened.prepare(ask(read_at="small")), opened.prepare(ask(resolution="small"))
    assert (small.prompt_tokens, small.read_at) == (named.prompt_tokens, "small")
    assert opened.prepare(ask(read_at="small", resolution="base")).read_at is None
    opened = opening.open(folder(QUICK))
    request = sized(2000, 100)
    assert opened.smaller(request, opened.prepare(request)) == ("1536px", "1024px")
    assert opened.smaller(request, None) == ("3072px", "2048px", "1536px", "1024px")
    request = structs.replace(request, read_at="1536px")
    assert opened.smaller(request, opened.prepare(request)) == opened.smaller(request, None) == ("1024px",)


def test_a_page_for_which_memory_ran_out_is_read_smaller(bench: Callable[..., Bench]) -> None:
    engine = bench("deepseek_ocr").engine()
    engine.load()
    Fault(engine, torch.OutOfMemoryError("CUDA out of memory"))
    (failure,) = engine.infer([ask()])
    assert isinstance(failure, Failure)
    assert failure.smaller == ("base", "small", "tiny")
    (result,) = engine.infer([ask(read_at="tiny")])
    assert isinstance(result, PageResult)
    assert result.shortage == Shortage(read_at="tiny", why="memory ran out at a larger size")
    assert told([result]) == told(engine.infer([ask(resolution="tiny")]))


# --- what goes wrong ------------------------------------------------------------------------------------------


class Fault:
    """Makes a forward pass of the decoder raise: the `at`-th of all, of prompts, or of steps of that many pages."""

    def __init__(
        self,
        engine: TransformersEngine,
        error: Exception,
        at: int = 1,
        of: Literal["all", "prompts", "steps"] = "all",
        pages: int | None = None,
    ) -> None:
        self.left, self.error, self.of, self.pages = at, error, of, pages
        decoder: Any = engine._weights.opened.model.base_model.language_model
        decoder.register_forward_pre_hook(self.strike, with_kwargs=True)

    def strike(self, module: object, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        kind = "steps" if named["inputs_embeds"].shape[1] == 1 else "prompts"
        if self.of not in ("all", kind) or self.pages not in (None, named["inputs_embeds"].shape[0]):
            return
        self.left -= 1
        if self.left == 0:
            raise self.error


def kinds(results: Sequence[PageResult | Failure]) -> list[str]:
    return [each.kind if isinstance(each, Failure) else "page" for each in results]


def test_bad_pages_fail_alone(bench: Callable[..., Bench]) -> None:
    engine = bench().engine()
    engine.load()
    wanted = engine.infer([ask()])
    bad = [
        InferRequest(image=b"no picture"),
        InferRequest(image=picture()[:40]),
        InferRequest(image=picture(300, 300), max_pixels=100),
    ]
    results = engine.infer([bad[0], ask(), bad[1], bad[2]])
    assert kinds(results) == ["invalid_image", "page", "invalid_image", "image_too_large"]
    assert told(results[1:2]) == told(wanted)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (ValueError("shapes don't match"), "failed"),
    ],
)
def test_a_page_that_cannot_begin_fails_and_the_next_one_is_read(
    bench: Callable[..., Bench], error: Exception, kind: str
) -> None:
    engine = bench().engine()
    engine.load()
    wanted = told(engine.infer([ask()]))
    Fault(engine, error)
    assert kinds(engine.infer([ask()])) == [kind]
    assert (engine._features.nbytes == 0) == (kind == "out_of_memory")
    assert told(engine.infer([ask()])) == wanted


@pytest.mark.parametrize("error", [MemoryError(), ValueError("shapes don't match")])
@pytest.mark.parametrize("bad", [None, 1])
def test_prompts_that_fail_together_are_read_in_one_by_one(
    bench: Callable[..., Bench], error: Exception, bad: int | None
) -> None:
    engine = bench().engine()
    engine.load()
    requests = [ask(), ask(color="blue"), ask(color="green")]
    wanted = told([engine.infer([request])[0] for request in requests])
    fault = Fault(engine, error, of="prompts", pages=3)
    if bad is not None:
        Fault(engine, ValueError("only this one"), bad + 1, of="prompts", pages=1)
    prepared(engine, requests)
    results = finished(engine)
    assert fault.left == 0
    assert engine._features.nbytes == 0
    good = [number for number in range(3) if number != bad]
    assert kinds(results) == ["failed" if number == bad else "page" for number in range(3)]
    assert told([results[number] for number in good]) == [wanted[number] for number in good]
    # Where no page was the cause, the model is, and it isn't asked again.
    passes = Passes(engine)
    prepared(engine, requests)
    finished(engine)
    joins = isinstance(error, MemoryError) or bad is not None
    assert passes.prompts == ([3] if joins else [1, 1, 1])


def test_a_page_without_memory_waits_for_one_that_is_written(bench: Callable[..., Bench]) -> None:
    engine = bench().engine()
    engine.load()
    wanted = told(engine.infer([ask(), ask(color="blue")]))
    engine.admit(0, ask())
    while not any(isinstance(event, Delta) for _, event in engine.step()):
        pass
    fault = Fault(engine, MemoryError(), of="prompts")
    events = stepped(engine, {1: ask(color="blue")})
    assert fault.left < 0
    results = {number: event for number, event in events if not isinstance(event, Delta)}
    assert told([results[0], results[1]]) == wanted
    ends = [number for number, event in events if not isinstance(event, Delta)]
    assert ends == [0, 1]


def test_memory_that_runs_out_while_writing_costs_the_newest_page(bench: Callable[..., Bench]) -> None:
    engine = bench().engine()
    engine.load()
    first, second = ask(max_tokens=60), ask(color="blue", max_tokens=60)
    wanted = told(engine.infer([first, second]))
    # The newest is the one that began last: each begins before the next one comes, however long its preparation takes.
    events = begun(engine, 0, first) + begun(engine, 1, second) + begun(engine, 2, ask(color="green"))
    assert engine._features.nbytes > 0
    Fault(engine, MemoryError(), of="steps")
    events += stepped(engine, {})
    assert engine._features.nbytes == 0
    results = {number: event for number, event in events if not isinstance(event, Delta)}
    assert kinds([results[number] for number in range(3)]) == ["page", "page", "out_of_memory"]
    assert told([results[0], results[1]]) == wanted


def test_a_step_that_fails_fails_its_pages_and_leaves_the_engine_empty(bench: Callable[..., Bench]) -> None:
    engine = bench().engine()
    engine.load()
    wanted = told(engine.infer([ask()]))
    # Of steps: where the second page is prepared late, its prompt would be the fourth pass of all.
    Fault(engine, ValueError("as the test wants"), 2, of="steps")
    with pytest.raises(ValueError, match="as the test wants"):
        engine.infer([ask(), ask()])
    assert engine.free_slots == engine.max_batch
    assert told(engine.infer([ask()])) == wanted


def test_an_error_that_sticks_ends_the_process(bench: Callable[..., Bench]) -> None:
    engine = bench().engine()
    engine.load()
    Fault(engine, torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(Broken, match="illegal memory access"):
        engine.infer([ask()])


def test_no_memory_for_the_device_leaves_the_model_on_the_host(bench: Callable[..., Bench]) -> None:
    made = bench()
    engine = made.engine()
    engine.load()
    wanted, digest = told(engine.infer([ask()])), made.digest()
    engine.offload()
    flat: Any = engine._weights._flat

    class Full:
        """A device without memory."""

        def __init__(self, real: Any) -> None:
            self._real = real

        def allocate(self, nbytes: int) -> torch.Tensor:
            raise MemoryError(f"{nbytes} bytes are too many")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    real, flat._device = flat._device, Full(flat._device)
    with pytest.raises(MemoryError, match="too many"):
        engine.restore()
    assert flat.device_bytes == 0
    flat._device = real
    assert engine.restore().device_bytes > 0
    assert (told(engine.infer([ask()])), made.digest()) == (wanted, digest)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": 1}, "no option 'speed'"),
        ({"threads": "many"}, "threads is a whole number from 0 to 256"),
        ({"max_batch": 1000}, "max_batch is a whole number from 1 to 256"),
    ],
)
def test_odd_options_are_refused(
    bench: Callable[..., Bench], options: Mapping[str, Any], message: str
) -> None:
    made = bench(**options)
    with pytest.raises(EngineError, match=message) as error:
        engines.create(made.spec, made.host)
    assert error.value.failure.kind is FailureKind.UNSUPPORTED


def test_a_folder_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    made = Bench(tmp_path / "nothing", tmp_path)
    engine = made.engine()
    with pytest.raises(EngineError, match="nothing"):
        engine.load()
    assert engine.unload().host_bytes == 0


LIMITED = """
import resource, sys
from ocr_inference.protocol.engine import InferRequest, ModelSpec
from ocr_inference.engines.transformers import engine as transformers
from ocr_inference.protocol.host_tier import HostTier
from tests.support.engines import picture

path, cache, *phases = sys.argv[1:]
unlimited = resource.getrlimit(resource.RLIMIT_DATA)

def limit(progress):
    if progress.phase in phases:
        lines = open("/proc/self/status").read().splitlines()
        taken = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (taken, unlimited[1]))

host = HostTier.create("m")
spec = ModelSpec(name="m", engine="transformers", path=path, cache_dir=cache, options={"threads": 1})
engine = transformers.create(spec, host, limit)
try:
    engine.load()
except MemoryError as error:
    print("MemoryError")
resource.setrlimit(resource.RLIMIT_DATA, unlimited)
phases.clear()
print(engine.unload().host_bytes)
engine.load()
print(len(engine.infer([InferRequest(image=picture(60, 40), resolution="tiny", max_tokens=3)])[0].text) > 0)
"""


def test_memory_that_ends_while_a_checkpoint_is_converted(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """It counts as what it is, not as a fault of the checkpoint, and the next load goes well."""
    arguments = (str(folder("deepseek_ocr")), str(tmp_path), "converting")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["MemoryError", "0", "True"]
    assert not list(tmp_path.rglob("*.part*"))


# --- memory ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_giving_back_memory_starts_no_device() -> None:
    """A context would lie on the GPU while gigabytes are downloaded; here, starting one raises."""
    memory.release(torch.device("cuda"))
    assert not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("capability", [(9, 0), None])
@pytest.mark.parametrize("kind", [QUICK, "deepseek_ocr"])
def test_a_standby_starts_no_device(
    kind: str, capability: tuple[int, int] | None, bench: Callable[..., Bench]
) -> None:
    """In deep idle nothing is on the GPU; here, starting CUDA raises."""
    made = bench(kind)
    made.spec = structs.replace(made.spec, dtype="float32")
    made.engine().load()
    made.spec = structs.replace(made.spec, device="cuda", compute_capability=capability)
    with pytest.MonkeyPatch.context() as environ:
        environ.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        standby = made.engine()
        assert standby.stand_by().device_bytes == 0
    assert not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with pytest.raises((RuntimeError, AssertionError), match=r"CUDA|NVIDIA"):
        standby.restore()


def test_a_forks_first_opening_leaves_what_its_forkserver_froze(bench: Callable[..., Bench]) -> None:
    """A look at it would copy its pages, and take longer than the opening itself."""

    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    made = bench()
    made.engine().load()
    frozen = Cycle()
    there = weakref.ref(frozen)
    gc.freeze()
    del frozen
    made.engine().stand_by()
    assert there() is not None
    memory.unfreeze()
    memory.collect()
    assert there() is None


def test_errors_of_memory_are_told_from_others() -> None:
    assert errors.ran_out(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))
    assert errors.ran_out(RuntimeError("unable to mmap 9 bytes from file <x>: Cannot allocate memory (12)"))
    assert not errors.ran_out(RuntimeError("shape mismatch"))
    assert not errors.ran_out(ValueError("out of memory"))
    assert errors.sticks(torch.AcceleratorError("CUDA error: device-side assert triggered"))
    assert not errors.sticks(torch.AcceleratorError("CUDA error: out of memory"))


def test_chat_models_are_all_covered() -> None:
    assert set(chatmodels.KINDS) < set(KINDS)
