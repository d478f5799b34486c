"""Models that other code made, taken over as they are: the same answers, the same tensors, nothing copied back."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from ocr_inference.engines.adopted.mover import TorchMover, UnknownDevice
from ocr_inference.engines.adopted.resident import Resident


class Model(torch.nn.Module):
    """Tied weights, buffers of several kinds, two dtypes, channels last, a transposed weight, a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(16, 8)
        self.head = torch.nn.Linear(8, 16, bias=False)
        self.head.weight = self.embed.weight
        self.low = torch.nn.Linear(8, 8, dtype=torch.bfloat16)
        self.conv = torch.nn.Conv2d(4, 8, 3, padding=1).to(memory_format=torch.channels_last)
        self.turned = torch.nn.Parameter(torch.rand(4, 8).t())
        self.wide = torch.nn.Parameter(torch.rand(8, 1).expand(8, 4))
        self.register_buffer("view", torch.arange(20.0)[4:12])
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("none", torch.empty(0), persistent=False)
        self.lstm = torch.nn.LSTM(8, 8)
        self.calls = 0
        self.low.register_forward_hook(self._count)

    def _count(self, *_: object) -> None:
        self.calls += 1

    def forward(self, ids: Any) -> Any:
        x = self.embed(ids) + self.low(self.embed(ids).to(torch.bfloat16)).float() * self.view
        x, _ = self.lstm(x)
        picture = self.conv((x @ self.turned).reshape(1, 4, 4, 4))
        return self.head(x) * self.count + picture.mean() + self.wide.sum()


IDS = torch.arange(16)


def make(**options: Any) -> Any:
    torch.manual_seed(7)
    return Model(**options)


@pytest.fixture(scope="module")
def expected() -> Any:
    return make()(IDS).detach()


def same(model: Any, expected: Any) -> bool:
    """Sums of another order differ in the last bit."""
    return torch.allclose(model(IDS).detach(), expected, rtol=1e-5)


def taken(loaded: object, device: str = "simulated") -> Resident:
    return TorchMover(device).take(loaded)


def test_a_model_answers_the_same_wherever_it_is_and_keeps_its_tensors(expected: Any) -> None:
    model = make()
    objects = [id(each) for each in model.parameters()]
    resident = taken(model)
    assert (resident.on_device, resident.kept_whole) == (False, "")
    for _ in range(3):
        resident.to_device()
        assert resident.on_device
        assert same(model, expected)
        resident.offload()
        assert not resident.on_device
        assert same(model, expected)
    assert [id(each) for each in model.parameters()] == objects
    assert model.head.weight is model.embed.weight
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert model.turned.stride() == (1, 8)
    assert model.embed.weight.requires_grad
    assert model.calls == 6


def test_going_back_to_the_host_copies_only_what_was_changed_on_the_device() -> None:
    model = make()
    resident = taken(model)
    resident.to_device()
    resident.offload()
    assert resident.copied_bytes == (resident.size_bytes, 0)
    resident.to_device()
    with torch.no_grad():
        model.low.bias.fill_(4)
        model.view += 1
    answer = model(IDS).detach()
    resident.offload()
    assert resident.copied_bytes[1] == model.low.bias.nbytes + model.view.nbytes
    assert same(model, answer)
    resident.to_device()
    assert same(model, answer)


def test_a_model_that_changed_its_shape_is_taken_over_anew(expected: Any) -> None:
    model = make()
    resident = taken(model)
    resident.to_device()
    model.added = torch.nn.Linear(8, 8)
    model.low.weight = torch.nn.Parameter(model.low.weight.detach() * 2)
    answer = model(IDS).detach()
    for _ in range(2):
        resident.offload()
        assert same(model, answer)
        resident.to_device()
        assert same(model, answer)
    resident.offload()
    model.low.to(torch.float32)  # while it is off the device
    resident.to_device()
    assert model.low.weight.dtype == torch.float32
    resident.offload()


def test_an_optimizer_goes_on_with_a_model_that_was_away() -> None:
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    resident = taken(model)
    before = model.weight.detach().clone()
    for _ in range(2):
        resident.to_device()
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        resident.offload()
    assert torch.allclose(model.weight.detach(), before - 0.2)


def test_a_model_that_was_made_in_inference_mode_is_moved(expected: Any) -> None:
    with torch.inference_mode():
        model = make()
    resident = taken(model)
    resident.to_device()
    resident.offload()
    resident.to_device()
    assert same(model, expected)


def test_what_is_released_is_whole_for_code_that_still_holds_it(expected: Any) -> None:
    model = make()
    resident = taken(model)
    resident.to_device()
    resident.release()
    assert (resident.on_device, resident.host_bytes, resident.loaded) == (False, 0, None)
    assert same(model, expected)


def test_without_a_gpu_nothing_is_moved_or_copied(expected: Any) -> None:
    model = make()
    places = [each.data_ptr() for each in model.parameters()]
    resident = taken(model, "cpu")
    resident.to_device()
    assert not resident.on_device
    resident.offload()
    assert (resident.size_bytes, resident.copied_bytes) == (0, (0, 0))
    assert [each.data_ptr() for each in model.parameters()] == places
    resident.release()
    assert same(model, expected)


# --- what holds a model ---------------------------------------------------------------------------------------


class Pipeline:
    """Modules as attributes, like those of diffusers; a part is held beside the whole."""

    def __init__(self) -> None:
        self.unet, self.vae, self.tokenizer = make(), torch.nn.Linear(3, 3), {"a": 1}
        self.part = self.unet.conv
        self.device = torch.device("cpu")


@dataclasses.dataclass
class Service:
    pipelines: dict[str, Any]
    itself: Any = None


def held(make_one: Callable[[], Any]) -> int:
    resident = taken(make_one())
    resident.to_device()
    resident.offload()
    return resident.size_bytes


def test_modules_are_found_in_tuples_pipelines_and_objects_that_hold_them() -> None:
    alone, pipeline = held(make), held(Pipeline)
    assert pipeline > alone
    assert held(lambda: (make(), "processor")) == alone
    assert held(lambda: Service({"text": Pipeline()})) == pipeline
    circle = Service({"a": make()})
    circle.itself = circle
    assert held(lambda: circle) == alone


def test_what_is_to_be_moved_can_be_said() -> None:
    pipeline = Pipeline()
    resident = TorchMover("simulated").take(pipeline, [pipeline.vae])
    resident.to_device()
    assert resident.size_bytes < 1000


# --- what can't be moved --------------------------------------------------------------------------------------


class Packed(torch.Tensor):
    """Elements and something more, like the weights of quantising libraries."""


def packed() -> Any:
    model = torch.nn.Linear(2, 2)
    model.weight = torch.nn.Parameter(
        torch.Tensor._make_subclass(Packed, torch.ones(2, 2)), requires_grad=False
    )
    return model


def sharing() -> Any:
    model = torch.nn.Linear(4, 4)
    model.other = torch.nn.Parameter(model.weight.detach()[1:])
    return model


def hooked() -> Any:
    model = torch.nn.Linear(2, 2)
    vars(model)["_hf_hook"] = object()
    return model


def odd() -> Any:
    model = torch.nn.Linear(2, 2)
    model.register_buffer("odd", torch.zeros(2, dtype=torch.complex128))
    return model


def with_buffer(tensor: torch.Tensor) -> Any:
    model = torch.nn.Linear(2, 2)
    model.register_buffer("odd", tensor)
    return model


def nested() -> torch.Tensor:
    with warnings.catch_warnings(action="ignore"):  # it is a prototype of torch
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


def marked() -> Any:
    model = torch.nn.Linear(2, 2)
    vars(model)["quantization_method"] = "gptq"
    return model


def compiled_in_place() -> Any:
    model = torch.nn.Linear(2, 2)
    model.compile()
    return model


@pytest.mark.parametrize(
    ("loaded", "words"),
    [
        (object, "no torch.nn.Module"),
        (lambda: [torch.ones(3)], "no torch.nn.Module"),
        (lambda: torch.compile(torch.nn.Linear(2, 2)), "OptimizedModule is compiled"),
        (compiled_in_place, "Linear is compiled"),
        (packed, "weight is a Packed"),
        (marked, "Linear is quantised"),
        (hooked, "accelerate moves parts of it"),
        (odd, "odd has elements of a type that can't be stored"),
        (lambda: with_buffer(torch.eye(3).to_sparse()), "odd is torch.sparse_coo"),
        (lambda: with_buffer(nested()), "odd is nested"),
        (sharing, "weight and other share memory"),
        (lambda: torch.nn.Linear(2, 2, device="meta"), "weight is on meta"),
    ],
)
def test_what_cannot_be_moved_is_kept_whole_and_says_why(loaded: Any, words: str) -> None:
    resident = taken(loaded())
    assert words in resident.kept_whole
    assert resident.size_bytes == 0  # it came in host memory, and stays there
    resident.to_device()
    assert not resident.on_device
    resident.offload()
    resident.release()


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "", "cuda:-1"])
def test_a_device_that_there_is_not_is_refused(name: str) -> None:
    with pytest.raises(UnknownDevice, match="no device"):
        TorchMover(name)
