"""What a process has once: a GPU for each device, and the manager that `get_gpu_manager` returns.

Both are made when they are asked for first. Two threads that ask at the same moment may make two; one is kept, and the
other, which has no thread and no model, is dropped.
"""

from typing import Final

from ocr_inference.library import moving
from ocr_inference.library.shared_gpu import SharedGPU

_GPUS: Final[dict[str, SharedGPU]] = {}


def process_gpu(device: str | None = None) -> SharedGPU:
    """Return the GPU that managers of this process share where they aren't given one. It has no budget."""
    mover = moving.torch_mover(device)
    return _GPUS.get(mover.name) or _GPUS.setdefault(mover.name, SharedGPU(mover=mover))
