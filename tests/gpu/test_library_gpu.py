"""The library's suite on a real GPU, and what only a GPU shows: freed memory, pinned copies, memory that runs out."""

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from ocr_inference import GPUResourceManager, SharedGPU
from ocr_inference.engines.adopted.resident import WrongDevice
from tests.support.librarysuite import LibrarySuite

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

MIB = 1 << 20


def large(device: str, width: int = 5120) -> Any:
    torch.manual_seed(3)
    return torch.nn.Linear(width, width, bias=False, dtype=torch.bfloat16, device=device)


class TestCuda(LibrarySuite):
    device = "cuda"
    torch_device = "cuda"


@pytest.mark.parametrize("born", ["cpu", "cuda"])
def test_an_offload_frees_the_gpu_and_copies_back_once_at_most(born: str) -> None:
    gpu = SharedGPU("cuda")
    manager = GPUResourceManager(None, gpu=gpu, load_func=lambda: large(born))
    for _ in range(3):
        with manager.lease() as model:
            assert torch.cuda.memory_allocated() >= 50 * MIB
            model(torch.ones(8, 5120, dtype=torch.bfloat16, device="cuda")).sum().item()
        manager.force_offload()
        assert torch.cuda.memory_reserved() == 0
    assert manager.get_status()["copied_back"] == 0
    manager.close()
    gpu.close()


def test_memory_that_runs_out_takes_that_of_idle_models() -> None:
    gpu = SharedGPU("cuda")
    free, _ = torch.cuda.mem_get_info()
    ballast = torch.empty(free - 1024 * MIB, dtype=torch.uint8, device="cuda")
    width = 17_700  # 600 MiB
    managers = [GPUResourceManager(None, gpu=gpu, load_func=lambda: large("cuda", width)) for _ in range(2)]
    for each in (*managers, *managers):
        with each.lease() as model:
            assert model.weight.is_cuda
    assert sorted(each.get_status()["model_location"] for each in managers) == ["cpu", "gpu"]
    for each in managers:
        each.force_release()
    gpu.close()
    del ballast
    torch.cuda.empty_cache()


def test_a_model_on_another_device_than_its_managers_is_refused() -> None:
    gpu = SharedGPU("cpu")
    with pytest.raises(WrongDevice, match="the model is on cuda:0, and its manager keeps host memory"):
        GPUResourceManager(gpu=gpu).get_model(lambda: large("cuda", 8))
    gpu.close()
