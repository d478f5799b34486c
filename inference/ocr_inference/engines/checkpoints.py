"""From a checkpoint's folder to a model on `meta`, its processor and its family, without remote code."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from ocr_inference.engine import InferRequest
from ocr_inference.engines.inputs import Inputs
from ocr_inference.families import Family


@dataclass(frozen=True)
class Opened:
    """What a folder holds, with no weights read yet."""

    folder: Path
    family: Family
    model: PreTrainedModel
    """In eval mode, all tensors on `meta`, in `dtype`."""
    dtype: torch.dtype
    attention: str
    """What was chosen for the text decoder."""
    reasons: tuple[str, ...]
    """Why something asked for isn't used, for the log."""
    conversion_needed: bool
    """Whether the checkpoint's tensors differ from the model's by name, shape or dtype: `converted` makes them equal."""
    eos_ids: frozenset[int]
    max_context: int
    """Tokens of prompt and answer together."""

    def prepare(self, request: InferRequest) -> Inputs:
        """Decode the page and build the prompt; raises `EngineError`."""
        raise NotImplementedError

    def decode(self, ids: Sequence[int]) -> str:
        """Text of written tokens, end marks left out."""
        raise NotImplementedError

    def converted(self) -> PreTrainedModel:
        """The model with its weights on the CPU by transformers' own loading: slow, any layout of checkpoint."""
        raise NotImplementedError

    def buffers(self) -> dict[str, torch.Tensor]:
        """Values of the buffers that no checkpoint holds (rotary tables, position ids), by the model's names."""
        raise NotImplementedError


def open(  # noqa: A001
    folder: Path,
    dtype: str = "auto",
    attention: str = "auto",
    *,
    device: str = "cpu",
    capability: tuple[int, int] | None = None,
) -> Opened:
    """`capability`: the CUDA device's compute capability. Raises `EngineError` that names file and field."""
    raise NotImplementedError
