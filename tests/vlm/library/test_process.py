"""What a process has once, and what a program imports."""

import subprocess
import sys

import pytest

pytest.importorskip("torch")

import torch

from ocr_inference import GPUResourceManager, get_gpu_manager
from tests.support.patience import PATIENCE


def test_the_manager_of_a_process_is_made_once_and_keeps_its_live_timeout() -> None:
    manager = get_gpu_manager(idle_timeout=60, device="simulated", name="once")
    manager.update_timeout(300)
    assert get_gpu_manager(idle_timeout=60, device="simulated", name="once") is manager
    assert manager.get_status()["timeout"] == 300
    assert get_gpu_manager(device="simulated", name="another") is not manager


def test_managers_of_a_device_share_it_and_are_named_apart() -> None:
    first, second = (GPUResourceManager(device="simulated", name="shared") for _ in range(2))
    assert first.gpu is second.gpu
    assert first.name != second.name
    assert GPUResourceManager(device="cpu").gpu is not first.gpu
    with pytest.raises(ValueError, match="give a gpu or a device, not both"):
        GPUResourceManager(gpu=first.gpu, device="cpu")
    with first.lease(lambda: torch.nn.Linear(2, 2)), second.lease(lambda: torch.nn.Linear(2, 2)):
        assert first.get_status()["model_location"] == "gpu"


def test_a_model_is_moved_without_the_compilers_modules() -> None:
    code = """
import sys, torch
from ocr_inference import GPUResourceManager
GPUResourceManager(device="simulated").preheat(lambda: torch.nn.Linear(2, 2))
print("torch._dynamo.eval_frame" in sys.modules, "transformers" in sys.modules, "aiohttp" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == "False False False\n"
