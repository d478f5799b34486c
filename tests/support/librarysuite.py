"""What the library's manager does with real models on every device: a class of tests for each device to inherit."""

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, pipeline

from ocr_inference import GPUResourceManager, SharedGPU
from tests.support import checkpoints
from tests.support.patience import PATIENCE
from tests.support.waiting import until

WORDS = 400


class Plain(torch.nn.Module):
    """Tied weights, a buffer, two dtypes, channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(64, 32)
        self.head = torch.nn.Linear(32, 64, bias=False)
        self.head.weight = self.embed.weight
        self.low = torch.nn.Linear(32, 32, dtype=torch.bfloat16)
        self.conv = torch.nn.Conv2d(1, 4, 3).to(memory_format=torch.channels_last)
        self.register_buffer("scale", torch.arange(32.0))

    def forward(self, ids: Any) -> Any:
        x = self.embed(ids) * self.scale + self.low(self.embed(ids).to(torch.bfloat16)).float()
        return self.head(x).mean(0) + self.conv(x.reshape(1, 1, *x.shape)).mean()


class Diffuser:
    """Several modules as attributes of an object that is none, and inputs that are sent by an attribute `device`."""

    def __init__(self) -> None:
        self.unet, self.vae = Plain(), torch.nn.Linear(64, 3)
        self.scheduler = {"steps": 4}
        self.device = torch.device("cpu")

    def to(self, device: str) -> "Diffuser":
        self.unet.to(device)
        self.vae.to(device)
        self.device = torch.device(device)
        return self

    def __call__(self) -> Any:
        return self.vae(self.unet(torch.arange(16, device=self.device)))


def plain() -> Callable[[str], Any]:
    return lambda device: Plain().to(device)


def make_pipeline(device: str) -> Any:
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        pad_token_id=0,
    )
    words = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=checkpoints.tokenizer({0: "[PAD]", 1: "[UNK]"}, WORDS), pad_token="[PAD]"
    )
    model = BertForSequenceClassification(config)
    model.train(False)
    return pipeline("text-classification", model=model, tokenizer=words, device=device)


def seeded(make: Callable[[str], Any], device: str) -> Any:
    torch.manual_seed(11)
    with torch.no_grad():
        return make(device)


class LibrarySuite:
    device: ClassVar[str]
    """As managers are given it."""
    torch_device: ClassVar[str]
    """Where tensors of a ready model are."""
    moves: ClassVar[bool] = True
    """Whether there is a device to move to."""

    @pytest.fixture
    def gpu(self) -> Iterator[SharedGPU]:
        gpu = SharedGPU(self.device)
        yield gpu
        gpu.close(PATIENCE)

    @property
    def ready(self) -> str:
        return "gpu" if self.moves else "cpu"

    @pytest.mark.parametrize("kind", ["plain", "pipeline", "diffuser", "tuple"])
    def test_a_model_answers_the_same_after_any_way(self, gpu: SharedGPU, kind: str) -> None:
        for came in {"cpu", self.torch_device}:
            self.goes_to_and_fro(gpu, kind, came)

    def goes_to_and_fro(self, gpu: SharedGPU, kind: str, came: str) -> None:
        """Move a model that its load function puts on the CPU or the GPU, and compare its answers."""
        make, ask = _KINDS[kind]
        expected = ask(seeded(make, "cpu"), torch.device("cpu"))
        manager = GPUResourceManager(None, gpu=gpu, load_func=lambda: seeded(make, came))
        model = manager.get_model()
        for _ in range(3):
            with manager.lease():
                assert manager.get_status()["model_location"] == self.ready
                assert close(ask(model, torch.device(self.torch_device)), expected)
            assert manager.force_offload()
            status = manager.get_status()
            assert (status["model_location"], status["device_bytes"]) == ("cpu", 0)
            assert status["kept_whole"] == ""
        status = manager.get_status()
        assert (status["copied_to_gpu"] > 0, status["copied_back"]) == (self.moves, 0)
        assert manager.force_release()
        assert manager.get_status()["host_bytes"] == 0
        assert close(ask(model, torch.device("cpu")), expected), "whole for code that holds it"
        with manager.lease() as again:
            assert again is not model
            assert close(ask(again, torch.device(self.torch_device)), expected)

    def test_threads_use_models_that_share_a_place(self) -> None:
        size = sum(each.nbytes for each in Plain().state_dict().values())
        gpu = SharedGPU(self.device, budget_bytes=2 * size)
        # Made once: threads that load at the same time would share torch's random numbers.
        made = seeded(plain(), "cpu")
        managers = [
            GPUResourceManager(None, gpu=gpu, load_func=lambda: copy.deepcopy(made)) for _ in range(3)
        ]
        expected = made(torch.arange(16)).detach()
        failed = threading.Event()

        def work(number: int) -> None:
            for turn in range(6):
                with managers[(number + turn) % 3].lease() as model, torch.inference_mode():
                    answer = model(torch.arange(16, device=self.torch_device)).cpu()
                    if not close(answer, expected):
                        failed.set()

        with ThreadPoolExecutor(3) as pool:
            for each in [pool.submit(work, number) for number in range(3)]:
                each.result(PATIENCE)
        assert not failed.is_set()
        assert sum(each.get_status()["device_bytes"] for each in managers) <= 2 * size
        gpu.close(PATIENCE)

    def test_idle_weights_leave_and_come_back_unchanged(self, gpu: SharedGPU) -> None:
        manager = GPUResourceManager(0.02, gpu=gpu, load_func=lambda: seeded(plain(), "cpu"))
        model: Any = manager.get_model()
        until(lambda: manager.get_status()["state"] == "offloaded")
        with manager.lease() as again, torch.no_grad():
            assert again is model
            model.low.bias += 1
            changed = model(torch.arange(16, device=self.torch_device)).cpu()
        until(lambda: manager.get_status()["state"] == "offloaded")
        assert manager.get_status()["copied_back"] == (model.low.bias.nbytes if self.moves else 0)
        with manager.lease():
            assert close(model(torch.arange(16, device=self.torch_device)).cpu(), changed)


def close(answer: Any, expected: Any) -> bool:
    """Whether the numbers are the same: a GPU rounds bfloat16 in another order, and wrong weights are far off."""
    there, here = (torch.as_tensor(each).detach().float().cpu() for each in (answer, expected))
    return torch.allclose(there, here, rtol=2e-2, atol=2e-2)


_KINDS: dict[str, tuple[Callable[[str], Any], Callable[[Any, torch.device], Any]]] = {
    "plain": (plain(), lambda model, device: model(torch.arange(16, device=device))),
    "tuple": (
        lambda device: (Plain().to(device), "processor"),
        lambda model, device: model[0](torch.arange(16, device=device)),
    ),
    "pipeline": (make_pipeline, lambda model, _: model("some words")[0]["score"]),
    "diffuser": (lambda device: Diffuser().to(device), lambda model, _: model()),
}
