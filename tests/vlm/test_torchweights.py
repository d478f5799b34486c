"""A model bound to one flat buffer: the same answers wherever it is, nothing copied on the way back, nothing left."""

import hashlib
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from ocr_inference.checkpoints.weights import layout, reading
from ocr_inference.checkpoints.weights.layout import Entry, Layout
from ocr_inference.engines.transformers import devices, torchweights
from ocr_inference.engines.transformers.devices import Device, Simulated
from ocr_inference.engines.transformers.torchweights import FlatModel
from ocr_inference.protocol.host_tier import HostTier
from tests.support.patience import PATIENCE


class Model(torch.nn.Module):
    """Tied weights, a computed buffer that a plain attribute refers to as well, a number, two dtypes."""

    table: torch.Tensor
    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(64, 32)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(32, 32) for _ in range(3))
        self.head = torch.nn.Linear(32, 64, bias=False)
        self.head.weight = self.embed.weight
        self.shift = torch.nn.Parameter(torch.rand(32).to(torch.bfloat16), requires_grad=False)
        self.register_buffer("table", torch.arange(32.0), persistent=False)
        self.register_buffer("count", torch.tensor(3))
        self.original = self.table

    def forward(self, ids: Any) -> Any:
        x = self.embed(ids) * self.table + self.original * self.shift
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x) * self.count


IDS = torch.arange(16)


@pytest.fixture(scope="module")
def reference() -> Any:
    torch.manual_seed(3)
    return Model()


@pytest.fixture(scope="module")
def folder(reference: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    tensors = {name: each.detach().clone() for name, each in reference.state_dict().items()}
    del tensors["head.weight"]
    save_file(tensors, folder / reading.SINGLE)
    return folder


@pytest.fixture
def host() -> Iterator[HostTier]:
    tier = HostTier.create("test")
    yield tier
    tier.close()


class MemoryAccounting(Simulated):
    """A simulated device that can't lose a byte: freeing a buffer that something still refers to is an error."""

    def __init__(self) -> None:
        self.buffers: list[mmap.mmap] = []
        self.fails_after: int | None = None
        self.full = False
        self.fails_late = False

    def allocate(self, nbytes: int) -> Any:
        if self.full:
            raise MemoryError("the device is full")
        self.buffers.append(mmap.mmap(-1, nbytes))
        return torch.frombuffer(memoryview(self.buffers[-1]), dtype=torch.uint8)

    def copy(self, target: Any, host: Any, offset: int, nbytes: int) -> None:
        if self.fails_after is not None:
            self.fails_after -= 1
            if self.fails_after < 0:
                raise MemoryError("out of device memory")
        super().copy(target, host, offset, nbytes)

    def wait(self) -> None:
        if self.fails_late:
            self.fails_late = False
            raise RuntimeError("the link broke")

    def clear(self) -> None:
        while self.buffers:
            self.buffers.pop().close()


class Full(Simulated):
    def allocate(self, nbytes: int) -> Any:
        return super().allocate(1 << 50)


def make_flat(host: HostTier, device: Device | None) -> tuple[Any, FlatModel, Layout]:
    with torch.device("meta"):
        model = Model()
    plan = layout.plan(*torchweights.entries(model))
    return model, FlatModel(model, plan, host, device), plan


def loaded(
    folder: Path, host: HostTier, device: Device | None, values: Mapping[str, Any] | None = None
) -> tuple[Any, FlatModel]:
    model, flat, plan = make_flat(host, device)
    with reading.Checkpoint.open(folder) as checkpoint:
        flat.load(
            lambda buffer, on_range: checkpoint.read(plan, buffer, on_range=on_range, chunk_bytes=1000),
            {"table": torch.arange(32.0)} if values is None else values,
        )
    return model, flat


def same(model: Any, reference: Any) -> bool:
    return bool(torch.equal(model(IDS), reference(IDS)))


# --- what a model has -----------------------------------------------------------------------------------------


def test_entries_are_all_tensors_once_with_their_other_names() -> None:
    with torch.device("meta"):
        found, ties = torchweights.entries(Model())
    names = {entry.name: entry for entry in found}
    assert ties == {"head.weight": "embed.weight"}
    assert len(names) == len(found) == 10
    assert names["table"] == Entry("table", "F32", (32,), persistent=False)
    assert names["count"] == Entry("count", "I64", ())
    assert names["shift"] == Entry("shift", "BF16", (32,))


def test_a_tensor_that_nothing_would_fill_is_refused() -> None:
    with torch.device("meta"):
        model = Model()
        model.layers[1].cache = torch.zeros(3)
    with pytest.raises(ValueError, match=r"layers\.1\.cache is a tensor on meta, neither"):
        torchweights.entries(model)


def test_elements_without_a_word_for_them_are_refused() -> None:
    model = torch.nn.Module()
    model.register_buffer("odd", torch.zeros(2, dtype=torch.complex128))
    with pytest.raises(ValueError, match="odd has elements of a type that can't be stored"):
        torchweights.entries(model)


def test_a_layout_of_another_model_is_refused(host: HostTier) -> None:
    found, ties = torchweights.entries(Model())
    less = layout.plan(found[1:], {})
    more = layout.plan([*found, Entry("more", "F32", (1,))], ties)
    other = layout.plan([*found[:-1], Entry(found[-1].name, "F32", (77,))], ties)
    for plan in (less, more, other):
        with pytest.raises(ValueError, match="the layout is of another model"):
            FlatModel(Model(), plan, host, None)


# --- the places -----------------------------------------------------------------------------------------------


def test_without_a_device_ready_is_the_host_and_nothing_is_copied(
    folder: Path, host: HostTier, reference: Any
) -> None:
    model, flat = loaded(folder, host, None)
    assert same(model, reference)
    with Ops() as ops:
        flat.drop_device()
        flat.to_device()
    assert ops.copies == []
    assert same(model, reference)
    assert (flat.device_bytes, flat.copied_to_device) == (0, 0)
    flat.close()


def test_the_same_answers_wherever_the_weights_are(folder: Path, host: HostTier, reference: Any) -> None:
    device = MemoryAccounting()
    model, flat = loaded(folder, host, device)
    total = flat.device_bytes
    assert same(model, reference)
    assert model.head.weight is model.embed.weight
    assert model.original is model.table
    before = digest(host)
    for _ in range(20):
        flat.drop_device()
        assert (flat.device_bytes, device.buffers) == (0, [])
        assert same(model, reference)
        flat.to_device()
        assert flat.device_bytes == total
        assert same(model, reference)
    assert digest(host) == before
    flat.close()


def test_loading_fills_the_device_while_reading(folder: Path, host: HostTier, reference: Any) -> None:
    device = MemoryAccounting()
    _, flat, plan = make_flat(host, device)
    arrived: list[int] = []

    def read(buffer: memoryview, on_range: Any) -> int:
        def count(offset: int, nbytes: int) -> None:
            on_range(offset, nbytes)
            arrived.append(flat.copied_to_device)

        with reading.Checkpoint.open(folder) as checkpoint:
            return checkpoint.read(plan, buffer, on_range=count, chunk_bytes=1000)

    flat.load(read, {"table": torch.arange(32.0)})
    assert len(arrived) > 5
    assert arrived == sorted(set(arrived))  # bytes are on the device after each range
    assert plan.weight_bytes <= flat.copied_to_device <= plan.total_bytes
    flat.close()


class Ops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What torch does, as far as it writes into memory."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.copies: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if not any(word in name for word in (".view", "slice", "detach", "empty", "set_data", "alias")):
            self.copies.append(name)
        return func(*args, **(kwargs or {}))


def test_offloading_copies_nothing_also_the_first_time(folder: Path, host: HostTier, reference: Any) -> None:
    _, flat = loaded(folder, host, Simulated())
    for _ in range(2):
        before = flat.copied_to_device
        with Ops() as ops:
            flat.drop_device()
        assert ops.copies == []
        assert flat.copied_to_device == before
        with Ops() as ops:
            flat.to_device()
        assert ops.copies == ["aten.copy_.default"]  # one: the check above can see copies
        assert flat.copied_to_device - before == flat.device_bytes
    flat.close()


def test_references_to_parameters_hold_no_device_memory(folder: Path, host: HostTier) -> None:
    model, flat = loaded(folder, host, MemoryAccounting())
    held = [model.embed.weight, model.table, dict(model.named_parameters())]
    flat.drop_device()  # a BufferError if any of them were a view of the device's buffer
    assert held[0].data_ptr() == model.head.weight.data_ptr()
    flat.close()
    assert model.embed.weight.numel() == 0


def test_another_process_restores_what_one_loaded(folder: Path, host: HostTier, reference: Any) -> None:
    _, flat = loaded(folder, host, Simulated())
    flat.close()
    model, flat, _ = make_flat(host, Simulated())
    assert flat.sealed
    flat.stand_by()
    assert (flat.device_bytes, flat.copied_to_device) == (0, 0)
    flat.to_device()
    assert same(model, reference)
    flat.close()


# --- what goes wrong ------------------------------------------------------------------------------------------


def test_nothing_is_restored_from_a_host_tier_that_is_not_complete(folder: Path, host: HostTier) -> None:
    _, flat, _ = make_flat(host, Simulated())
    assert not flat.sealed
    with pytest.raises(ValueError, match="doesn't hold this model's weights"):
        flat.to_device()

    def fails(buffer: memoryview, on_range: Any) -> int:
        raise OSError("disk gone")

    loaded(folder, host, None)[1].close()
    assert flat.sealed
    with pytest.raises(OSError, match="disk gone"):
        flat.load(fails)
    assert not flat.sealed
    assert flat.device_bytes == 0
    flat.close()


def test_a_host_tier_of_another_model_is_not_taken(folder: Path, host: HostTier) -> None:
    loaded(folder, host, None)[1].close()
    model = torch.nn.Linear(2, 2, device="meta")
    other = FlatModel(model, layout.plan(*torchweights.entries(model)), host, None)
    assert not other.sealed


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "bytes of tensors were filled, not"),
        ({"table": torch.zeros(31)}, r"table has shape \(31,\), not \(32,\)"),
        ({"table": torch.zeros(1, 32)}, "table has shape"),
    ],
)
def test_a_load_that_leaves_gaps_fails(
    folder: Path, host: HostTier, values: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        loaded(folder, host, MemoryAccounting(), values)


def test_values_are_converted_to_what_the_model_holds(host: HostTier, reference: Any) -> None:
    model, flat, plan = make_flat(host, Simulated())
    state = dict(reference.named_parameters()) | dict(reference.named_buffers())
    flat.load(values={name: state[name].detach().to(torch.float64) for name in plan.slots})
    assert model.shift.dtype == torch.bfloat16
    assert same(model, reference)
    flat.close()


def test_no_room_on_the_device_leaves_the_model_on_the_host(
    folder: Path, host: HostTier, reference: Any
) -> None:
    model, flat = loaded(folder, host, None)
    flat.close()
    model, flat, _ = make_flat(host, Full())
    for _ in range(2):
        with pytest.raises(MemoryError, match="bytes for a simulated device"):
            flat.to_device()
        assert flat.device_bytes == 0
        assert same(model, reference)
    flat.close()


def test_a_copy_that_fails_half_way_is_undone(folder: Path, host: HostTier, reference: Any) -> None:
    device = MemoryAccounting()
    model, flat = loaded(folder, host, device)
    flat.drop_device()
    device.fails_after = 0
    with pytest.raises(MemoryError, match="out of device memory"):
        flat.to_device()
    assert (flat.device_bytes, device.buffers) == (0, [])
    assert same(model, reference)
    device.fails_after = None
    flat.to_device()
    assert same(model, reference)
    flat.close()


@given(st.lists(st.sampled_from(["restore", "full", "broken", "offload", "exit"]), max_size=12))
def test_a_model_is_whole_after_any_order_of_moves(folder: Path, reference: Any, moves: list[str]) -> None:
    host, device = HostTier.create("moves"), MemoryAccounting()
    model, flat = loaded(folder, host, device)
    total, sealed = flat.device_bytes, digest(host)
    on_device = True
    for move in moves:
        device.full, device.fails_after = move == "full", 0 if move == "broken" else None
        match move:
            case "restore":
                flat.to_device()
                on_device = True
            case "offload":
                flat.drop_device()
                on_device = False
            case "exit":  # and another worker takes over
                flat.close()
                model, flat, _ = make_flat(host, device)
                flat.bind_host()
                on_device = False
            case "full" | "broken" if not on_device:
                with pytest.raises(MemoryError):
                    flat.to_device()
        assert same(model, reference)
        assert flat.device_bytes == (total if on_device else 0)
        assert len(device.buffers) == on_device
    assert digest(host) == sealed
    flat.close()
    host.close()


def test_copies_that_turn_out_to_have_failed_are_undone(folder: Path, host: HostTier, reference: Any) -> None:
    device = MemoryAccounting()
    model, flat = loaded(folder, host, device)
    flat.drop_device()
    device.fails_late = True
    with pytest.raises(RuntimeError, match="the link broke"):
        flat.to_device()
    assert (flat.device_bytes, device.buffers) == (0, [])
    assert same(model, reference)
    flat.close()


def test_a_load_whose_copies_fail_leaves_the_device_empty(folder: Path, host: HostTier) -> None:
    device = MemoryAccounting()
    device.fails_after = 3
    _, flat, plan = make_flat(host, device)
    with reading.Checkpoint.open(folder) as checkpoint, pytest.raises(MemoryError):
        flat.load(lambda buffer, on_range: checkpoint.read(plan, buffer, on_range=on_range, chunk_bytes=1000))
    assert (flat.device_bytes, device.buffers, flat.sealed) == (0, [], False)
    flat.close()
    host.resize(0)
    assert host.resident_bytes == 0


@pytest.mark.parametrize("device", [None, Simulated()])
def test_a_host_tier_that_can_not_be_mapped_changes_nothing(
    folder: Path, host: HostTier, reference: Any, tmp_path: Path, device: Device | None
) -> None:
    model, flat = loaded(folder, host, device)
    with (tmp_path / "image").open("wb") as file:  # not for reading
        file.truncate(host.size)
        with pytest.raises(PermissionError):
            flat.use_host(HostTier(file.fileno(), read_only=True))
    assert flat.sealed
    flat.drop_device()
    assert same(model, reference)
    flat.close()


def test_who_holds_on_to_the_weights_is_told(folder: Path, host: HostTier) -> None:
    model, flat = loaded(folder, host, None)
    held = model.embed.weight.detach()
    with pytest.raises(BufferError):
        flat.close()
    del held
    flat.close()


def test_loading_again_reuses_the_pages_that_are_there(folder: Path, host: HostTier, reference: Any) -> None:
    loaded(folder, host, None)[1].close()
    taken = host.resident_bytes
    model, flat = loaded(folder, host, None)
    assert host.resident_bytes == taken
    assert same(model, reference)
    flat.close()


@pytest.mark.parametrize("kind", ["cpu", "simulated"])
def test_devices_by_their_kind(kind: Any, folder: Path, host: HostTier, reference: Any) -> None:
    model, flat = loaded(folder, host, devices.device(kind))
    assert same(model, reference)
    assert (flat.device_bytes > 0) == (kind == "simulated")
    assert flat.pin(wait=True) == 0  # no device gains by it
    flat.close()


# --- memory ---------------------------------------------------------------------------------------------------


def digest(host: HostTier) -> str:
    with host.map() as mapped:
        return hashlib.sha256(mapped).hexdigest()


MEASURE = """
import gc, sys
from pathlib import Path
import torch
from ocr_inference.engines.transformers import devices, torchweights
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.checkpoints.weights import layout

def resident():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmRSS:"))

def cycle(width):
    with torch.device("meta"):
        model = torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(4)))
    plan = layout.plan(*torchweights.entries(model))
    host = HostTier.create("measure")
    flat = torchweights.FlatModel(model, plan, host, devices.Simulated())
    values = ((name, torch.ones(())) for name in plan.slots)
    flat.load(values={name: one.expand(plan.slots[name].entry.shape) for name, one in values})
    flat.drop_device()
    flat.to_device()
    taken = host.resident_bytes
    grown = resident()
    flat.close()
    host.resize(0)
    host.close()
    return plan.weight_bytes, taken, grown

cycle(64)
before = resident()
weights, taken, grown = cycle(5000)
print(before, resident(), weights, taken, grown)
"""


def test_the_host_tier_is_exact_and_released_memory_comes_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    before, after, weights, taken, grown = map(int, done.stdout.split())
    assert weights > 400_000_000
    assert taken <= 1.02 * weights
    assert grown - before > 1.9 * weights  # host and device: it was really there
    assert abs(after - before) <= 0.02 * before
