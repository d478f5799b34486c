"""Weights on a real GPU: what a CPU can't show of pinning, direct copies and freed device memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from ocr_inference.checkpoints.weights import layout, shared_image
from ocr_inference.checkpoints.weights.image import Key
from ocr_inference.checkpoints.weights.pinning import CHUNK_BYTES
from ocr_inference.engines.transformers import devices, torchweights
from ocr_inference.engines.transformers.torchweights import FlatModel
from ocr_inference.protocol.host_tier import HostTier

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

MIB = 1 << 20
WIDTH = 5120
"""Six layers of it are 315 MB: two chunks that are pinned whole and a part of a third."""


def make_model(device: str) -> Any:
    with torch.device(device):
        return torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH, dtype=torch.bfloat16) for _ in range(6)))


@pytest.fixture(scope="module")
def values() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return {name: each.detach() for name, each in make_model("cpu").named_parameters()}


class Subject:
    def __init__(self, values: dict[str, torch.Tensor]) -> None:
        self.values = values
        self.model = make_model("meta")
        self.plan = layout.plan(*torchweights.entries(self.model))
        self.host = HostTier.create("gpu-test")
        self.flat = FlatModel(self.model, self.plan, self.host, devices.device("cuda"))

    def intact(self, place: str) -> bool:
        """Every weight, bit by bit, where it is said to be."""
        return all(
            each.device.type == place and torch.equal(each.detach().cpu(), self.values[name])
            for name, each in self.model.named_parameters()
        )

    def compute(self) -> None:
        """Leave behind what computing leaves: library workspaces and cached blocks."""
        self.model(torch.ones(64, WIDTH, dtype=torch.bfloat16, device="cuda")).sum().item()


@pytest.fixture
def subject(values: dict[str, torch.Tensor]) -> Iterator[Subject]:
    subject = Subject(values)
    subject.flat.load(values=values)
    yield subject
    subject.flat.close()
    subject.host.close()


def test_a_shared_image_is_copied_to_the_device_pinned_or_not(subject: Subject, tmp_path: Path) -> None:
    """Where the driver refuses to pin what can only be read, copies go through the slots."""
    key = Key("somewhere", "1", "bfloat16", "torch", b"")
    with subject.host.map() as mapped, memoryview(mapped) as tier:
        shared_image.write(tmp_path / "x.flat", key, tier)
    image = shared_image.opened(tmp_path / "x.flat", key, subject.plan)
    subject.flat.use_host(image)
    assert subject.intact("cuda")
    subject.flat.drop_device()
    assert subject.intact("cpu")
    subject.flat.to_device()
    assert subject.intact("cuda")
    pinned = subject.flat.pin(wait=True)
    print(f"{pinned} of {image.size} bytes are pinned")
    subject.flat.drop_device()
    subject.flat.to_device()
    assert subject.intact("cuda")
    subject.flat.close()
    image.close()


def used_bytes() -> int:
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return total - free


def test_weights_are_the_same_on_the_device_pinned_or_not(subject: Subject) -> None:
    assert subject.intact("cuda")
    subject.flat.drop_device()
    assert subject.intact("cpu")
    subject.flat.to_device()  # by bounce slots
    assert subject.intact("cuda")
    subject.flat.drop_device()
    subject.flat.pin()
    subject.flat.to_device()  # partly pinned, or not yet at all
    assert subject.intact("cuda")
    subject.flat.drop_device()
    assert subject.flat.pin(wait=True) >= 2 * CHUNK_BYTES
    for _ in range(10):
        subject.flat.to_device()
        assert subject.intact("cuda")
        subject.flat.drop_device()
    assert subject.intact("cpu")


def test_offloading_leaves_nothing_but_the_context(values: dict[str, torch.Tensor]) -> None:
    torch.ones(1, device="cuda").sum().item()
    warm = Subject(values)
    warm.flat.load(values=values)
    warm.compute()
    warm.flat.close()
    warm.host.close()
    before = used_bytes()
    subject = Subject(values)
    subject.flat.load(values=values)
    subject.compute()
    assert used_bytes() - before > 300 * MIB
    subject.flat.drop_device()
    assert torch.cuda.memory_reserved() == 0
    assert used_bytes() - before <= 2 * MIB
    subject.flat.close()
    subject.host.close()


def test_offloading_copies_nothing_back(subject: Subject) -> None:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        subject.flat.drop_device()
        torch.cuda.synchronize()
    assert [event.key for event in seen.key_averages() if event.key.startswith("Memcpy")] == []
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        subject.flat.to_device()
    # The check above can see copies: there are some now, and only in this direction.
    copies = {event.key for event in seen.key_averages() if event.key.startswith("Memcpy")}
    assert copies
    assert all("HtoD" in key for key in copies)


def test_no_room_on_the_device_leaves_the_model_on_the_host(subject: Subject) -> None:
    subject.flat.drop_device()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    ballast = torch.empty(free - 100 * MIB, dtype=torch.uint8, device="cuda")
    with pytest.raises(MemoryError, match="out of memory"):
        subject.flat.to_device()
    assert subject.flat.device_bytes == 0
    assert subject.intact("cpu")
    del ballast
    subject.flat.to_device()
    assert subject.intact("cuda")


def test_a_refused_registration_leaves_no_error_behind() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    registrar = devices.Registrar(device, torch.cuda.cudart())  # type: ignore[no-untyped-call]
    registrar.enter()
    assert registrar.register(0x1000, MIB) is not None  # nothing is mapped there
    assert torch.ones(8, device="cuda").sum().item() == 8  # would raise the error that was left


def test_closing_unpins_and_gives_host_memory_back(subject: Subject) -> None:
    assert subject.flat.pin(wait=True) > 0
    subject.flat.close()
    subject.host.resize(0)
    assert subject.host.resident_bytes == 0
    subject.flat.load(values=subject.values)
    assert subject.intact("cuda")
