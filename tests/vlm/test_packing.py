"""Packed weights on a CPU: the same answers, the same bits after any cycle, memory that comes and goes with them."""

import gc
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra `transformers`")

import torch
from torch import nn
from torch.nn import functional

from ocr_inference.engines.transformers import checkpoints as opening
from ocr_inference.engines.transformers import engine as transformers
from ocr_inference.engines.transformers import packedlayers, packing
from ocr_inference.engines.transformers.engine import TransformersEngine
from ocr_inference.engines.transformers.features import Features
from ocr_inference.engines.transformers.loading import Weights
from ocr_inference.engines.transformers.packing import PackedWeights, Terms
from ocr_inference.protocol.engine import Failure, InferRequest, ModelSpec, PageResult
from ocr_inference.protocol.host_tier import HostTier
from tests.support import greedy
from tests.support.engines import picture

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(packing.unfit(torch.float32) is not None, reason="nothing is packed on this machine"),
    # Processors of transformers hand Pillow's pictures to numpy in a way that numpy will drop.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

ANY = Terms(least_elements=0, spare_bytes=0)
"""Terms for tiny checkpoints: the weights of real models are larger than all of theirs."""
MIB = 1 << 20


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """One, as tests run beside others, unless a test wants more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Bench:
    """Engines of one model on a CPU, with its host tier."""

    def __init__(self, path: Path, cache: Path, **fields: Any) -> None:
        self.host = HostTier.create("test")
        self.spec = ModelSpec(
            name="m", engine="transformers", device="cpu", path=str(path), cache_dir=str(cache), **fields
        )

    def engine(self, terms: Terms | None = ANY) -> TransformersEngine:
        weights = Weights(self.spec, self.host, lambda _: None, os.environ, terms)
        return TransformersEngine(weights, 8, Features(0), lambda: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A checkpoint of a kind, made once."""
    return greedy.made_once(tmp_path_factory.mktemp("checkpoints"))


def pages(kind: str) -> list[InferRequest]:
    """Of different sizes and lengths."""
    size = "small" if kind.startswith("deepseek") else None
    return [
        InferRequest(image=picture(60, 40, "red"), task="free", max_tokens=12, resolution=size),
        InferRequest(image=greedy.page(300, 400), task="document", max_tokens=30, resolution=size),
        InferRequest(image=picture(90, 200, "green"), task="free", max_tokens=20, resolution=size),
    ]


def generated(path: Path, requests: Sequence[InferRequest]) -> list[str]:
    """Texts by transformers' own `generate`, a page at a time."""
    opened = opening.open(path)
    model = opened.converted()
    return [opened.decode(greedy.write(model, opened.prepare(each), opened)) for each in requests]


def texts(results: Sequence[PageResult | Failure]) -> list[str]:
    assert all(isinstance(each, PageResult) for each in results), results
    return [each.text for each in results if isinstance(each, PageResult)]


@pytest.mark.parametrize("kind", sorted(greedy.CASES))
def test_together_alone_and_after_any_cycle_it_writes_what_generate_writes(
    kind: str, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    requests = pages(kind)
    wanted = generated(folder(kind), requests)
    bench = Bench(folder(kind), tmp_path)
    engine = bench.engine()
    loaded = engine.load()
    assert 0 < loaded.packed_bytes < loaded.host_bytes
    assert texts(engine.infer(requests)) == wanted
    assert texts([engine.infer([request])[0] for request in requests]) == wanted
    assert engine.offload().packed_bytes == 0
    assert engine.restore() == loaded
    assert texts(engine.infer(requests)) == wanted
    engine.offload()
    successor = bench.engine()
    assert successor.stand_by().packed_bytes == 0
    assert successor.restore().packed_bytes == loaded.packed_bytes
    assert texts(successor.infer(requests)) == wanted
    assert successor.unload().packed_bytes == 0


def test_after_any_cycle_it_computes_the_same_bits(folder: Callable[[str], Path], tmp_path: Path) -> None:
    bench = Bench(folder("qwen2_5_vl"), tmp_path)
    engine = bench.engine()
    engine.load()
    before = computed(engine)
    for _ in range(2):
        engine.offload()
        engine.restore()
        assert all(map(torch.equal, before, computed(engine)))
    engine.offload()
    successor = bench.engine()
    successor.restore()
    assert all(map(torch.equal, before, computed(successor)))


@torch.inference_mode()
def computed(engine: TransformersEngine) -> list[torch.Tensor]:
    """What the last layer and a gated block make of one row, a few and many."""
    model: Any = engine._weights.opened.model
    head, block = model.get_output_embeddings(), model.get_decoder().layers[0].mlp
    rows = torch.randn(1100, head.in_features, generator=torch.Generator().manual_seed(1))
    return [layer(rows[:count]) for layer in (head, block) for count in (1, 2, 8, 33, 200, 1100)]


def test_only_what_steps_use_is_packed(folder: Callable[[str], Path], tmp_path: Path) -> None:
    engine = Bench(folder("qwen2_5_vl"), tmp_path).engine()
    packed_bytes = engine.load().packed_bytes
    model = engine._weights.opened.model
    replaced = [name for name, module in model.named_modules() if "forward" in vars(module)]
    blocks = [name for name in replaced if name.endswith(".mlp")]
    assert len(blocks) == model.config.get_text_config().num_hidden_layers
    assert not [name for name in replaced if "visual" in name]
    layers = [name for name in replaced if name not in blocks]
    assert packed_bytes == sum(model.get_parameter(f"{name}.weight").nbytes for name in layers)
    engine.offload()
    assert not [name for name, module in model.named_modules() if "forward" in vars(module)]


def test_nothing_is_packed_where_it_gains_nothing_or_is_switched_off(
    folder: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder("lighton_ocr")
    too_small = Bench(path, tmp_path).engine(Terms(spare_bytes=0))
    assert too_small.load().packed_bytes == 0
    off = Bench(path, tmp_path, options={"pack_weights": False})
    assert transformers.create(off.spec, off.host, lambda _: None).load().packed_bytes == 0
    half = Bench(path, tmp_path, dtype="bfloat16").engine()
    with caplog.at_level(logging.INFO):
        assert half.load().packed_bytes == 0
    assert "only float32 was measured" in caplog.text


def test_a_model_is_ready_without_copies_for_which_memory_is_missing(
    folder: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder("lighton_ocr")
    engine = Bench(path, tmp_path).engine(Terms(least_elements=0, spare_bytes=1 << 60))
    assert engine.load().packed_bytes == 0
    assert "weights aren't packed, so decoding is slower" in caplog.text
    assert texts(engine.infer(pages("lighton_ocr"))) == generated(path, pages("lighton_ocr"))


# --- layers -----------------------------------------------------------------------------------------------------


class Decoder(nn.Module):
    """As much of a model as packing needs."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def get_decoder(self) -> nn.Module:
        return self

    def get_output_embeddings(self) -> nn.Module:
        return self.layers[-1]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(64, 96), (1024, 2049), (1536, 2048)])
@torch.inference_mode()
def test_any_number_of_rows_gives_what_the_layer_gives(sizes: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(2)  # so that a single row's work is shared out
    layer = nn.Linear(*sizes, bias=bias)
    plain = nn.Linear(*sizes, bias=bias)
    plain.load_state_dict(layer.state_dict())
    packed = PackedWeights(Decoder(layer), 0)  # type: ignore[arg-type]
    packed.pack()
    wide = torch.randn(600, 2 * sizes[0])
    for count in (0, 1, 2, 3, 31, 32, 33, 48, 90, 128, 129, 256, 257, 300, 600):
        for rows in (wide[:count, : sizes[0]].contiguous(), wide[:count, ::2]):
            wanted = functional.linear(rows, plain.weight, plain.bias)
            assert torch.allclose(layer(rows), wanted, atol=2e-5)
            assert torch.allclose(layer(rows[None]), wanted[None], atol=2e-5)
            assert torch.allclose(layer(rows[:, None]), wanted[:, None], atol=2e-5)
    packed.drop()
    assert torch.equal(layer(wide[:3, : sizes[0]]), plain(wide[:3, : sizes[0]]))


class Block(nn.Module):
    """Gated product, as decoders have it."""

    def __init__(self, *, bias: bool = False, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(64, 96, bias=bias) for _ in range(2))
        self.down_proj = nn.Linear(96, 64, bias=bias)
        self.act_fn = activation or nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))
        return out


class Limited(Block):
    """One that has the same parts, and limits what is in between, as some decoders do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down_proj(self.act_fn(self.gate_proj(x).clamp(max=10)) * self.up_proj(x))
        return out


class Scaled(Block):
    """One whose code is another by a word."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down_proj(self.act_fn(self.gate_proj(x)) + self.up_proj(x))
        return out


def packed_block(block: Block) -> PackedWeights:
    packed = PackedWeights(Decoder(block, nn.Linear(64, 8)), 0)  # type: ignore[arg-type]
    packed.pack()
    return packed


@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_a_gated_block_gives_what_it_gives_for_any_number_of_rows(bias: bool) -> None:
    torch.manual_seed(0)
    block, plain = Block(bias=bias), Block(bias=bias)
    plain.load_state_dict(block.state_dict())
    packed = packed_block(block)
    assert "forward" in vars(block)
    wide = torch.randn(2100, 128)
    for count in (0, 1, 2, 9, 32, 33, 300, 1025, 2100):
        for rows in (wide[:count, :64].contiguous(), wide[:count, ::2], wide[:1, :64].expand(count, 64)):
            assert torch.allclose(block(rows), plain(rows), atol=2e-5)
            assert torch.allclose(block(rows[None]), plain(rows[None]), atol=2e-5)
            assert torch.allclose(block(rows[:, None]), plain(rows[:, None]), atol=2e-5)
    packed.drop()
    assert "forward" not in vars(block)
    few = torch.randn(3, 64)
    assert torch.equal(block(few), plain(few))


@pytest.mark.parametrize("block", [Limited(), Scaled(), Block(activation=nn.GELU())])
@torch.inference_mode()
def test_a_block_that_computes_something_else_is_left_as_it_is(block: Block) -> None:
    rows = torch.randn(5, 64) * 100
    before = block(rows)
    packed_block(block)
    assert "forward" not in vars(block)
    assert "forward" in vars(block.up_proj)
    assert torch.allclose(block(rows), before, rtol=1e-4, atol=1e-3)


def test_a_copy_that_fails_half_way_leaves_no_layer_changed() -> None:
    block = Block()
    broken = nn.Linear(8, 8).to("meta")
    with pytest.raises(NotImplementedError, match="Meta"):
        PackedWeights(Decoder(block, broken), 0).pack()  # type: ignore[arg-type]
    assert not [module for module in block.modules() if "forward" in vars(module)]


@pytest.mark.parametrize("rows", [1, 2, 32, 33, 64, 90, 255, 256, 257, 512, 513, 1000, 1024, 1025, 5000])
def test_parts_are_equal_and_of_few_sizes(rows: int) -> None:
    part = packedlayers._part(rows)
    assert part <= packedlayers._MOST_ROWS
    count = -(-rows // part)
    assert count * part - rows < (rows // 8 + count if rows > 128 else 16)
    sizes = {packedlayers._part(each) for each in range(1, 5000)}
    assert len(sizes) <= 50, "oneDNN keeps a program for each"


def test_memory_comes_with_the_copies_and_goes_with_them() -> None:
    layers = [nn.Linear(1024, 1024 + 256 * (number % 4), bias=False) for number in range(24)]
    packed = PackedWeights(Decoder(*layers), 1 << 19)  # type: ignore[arg-type]
    before = resident()
    for _ in range(3):
        packed.pack()
        held = resident() - before
        assert packed.nbytes == packed.nbytes_packed == sum(layer.weight.nbytes for layer in layers)
        assert 0.9 * packed.nbytes < held < 1.2 * packed.nbytes + 8 * MIB
        with torch.inference_mode():
            for layer in layers:
                layer(torch.randn(16, 1024))
        total = packed.nbytes
        packed.drop()
        assert packed.nbytes == 0
        assert resident() - before < 0.1 * total + 8 * MIB


def resident() -> int:
    """Bytes of this process's own memory."""
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))
