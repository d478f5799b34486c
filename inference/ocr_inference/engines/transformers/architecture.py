"""Models without weights: built on `meta` from a configuration, or loaded by transformers itself where a checkpoint's
layout isn't the model's."""

import copy
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel
from transformers.utils.import_utils import is_flash_attn_2_available

from ocr_inference.checkpoints.sources import faults, selection
from ocr_inference.engines.transformers import errors

_UNTOUCHED = 0x7F
"""A byte that no computed buffer consists of: as a float it is huge, as an integer beyond any position."""


@dataclass(frozen=True)
class Built:
    model: PreTrainedModel
    """In eval mode, all tensors on `meta`, with the dtypes that they have when they are loaded."""
    attention: str
    """Attention of the text decoder."""
    reasons: tuple[str, ...]
    """Reason for another attention than the requested one."""


def build(config: PreTrainedConfig, dtype: torch.dtype, attention: str, device: str) -> Built:
    """Build the model. `attention` as in the settings, `auto` for the best; `device` is a kind: cuda, cpu. Raises
    `EngineError`."""
    reasons: list[str] = []
    for wanted in _candidates(attention, dtype, device, reasons):
        try:
            with torch.device("meta"):
                model = AutoModelForImageTextToText.from_config(  # type: ignore[no-untyped-call]
                    copy.deepcopy(config), dtype=dtype, attn_implementation=wanted, trust_remote_code=False
                )
        except (ValueError, ImportError) as error:
            reasons.append(f"attention {wanted} can't be used: {faults.shown(str(error))}")
            continue
        except Exception as error:
            # Whatever a constructor does with untrusted numbers: RuntimeError, TypeError, ZeroDivisionError, …
            raise faults.invalid(
                selection.CONFIG, "", f"gives no model: {faults.shown(str(error))}"
            ) from error
        _keep_precise(model, dtype)
        chosen = model.config.get_text_config(decoder=True)._attn_implementation
        return Built(model.eval(), str(chosen), tuple(reasons))
    raise faults.invalid(selection.CONFIG, "", f"gives no model: {'; '.join(reasons)}")


def _candidates(
    attention: str, dtype: torch.dtype, device: str, reasons: list[str]
) -> Iterator[str | dict[str, str]]:
    """Return implementations, best first. The choice reaches the text decoder, too, which has a configuration of its
    own."""
    if attention == "flash_attention_2":
        if device != "cuda":
            reasons.append(f"attention flash_attention_2 needs a CUDA device, this is {device}: using sdpa")
        elif dtype is torch.float32:
            reasons.append("attention flash_attention_2 doesn't compute in float32: using sdpa")
        elif not is_flash_attn_2_available():
            reasons.append("attention flash_attention_2 needs flash-attn, which is not installed: using sdpa")
        else:
            # The vision towers add a bias to their attention, which flash attention doesn't take.
            yield {"text_config": "flash_attention_2"}
    if attention != "eager":
        yield "sdpa"
    yield "eager"


def _keep_precise(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Keep parts in float32 that their authors keep so, as loading by the library does."""
    plan = model._get_dtype_plan(dtype)
    if not plan:
        return
    pattern = re.compile("|".join(rf"(?:^|\.){re.escape(part)}(?:\.|$)" for part in plan))
    for name, parameter in model.named_parameters():
        if pattern.search(name):
            parameter.data = parameter.data.to(torch.float32)


def buffers(model: PreTrainedModel) -> dict[str, torch.Tensor] | None:
    """Return values of the buffers that no checkpoint holds (rotary tables, position ids), by name; None if the model
    has no function that computes them."""
    twin = copy.deepcopy(model)
    found: dict[str, torch.Tensor] = {}
    for path, module in twin.named_modules():
        module._is_hf_initialized = False
        for name in module._non_persistent_buffers_set:
            buffer = module._buffers.get(name)
            if buffer is not None:
                fresh = torch.empty_like(buffer, device="cpu", memory_format=torch.contiguous_format)
                fresh.reshape(-1).view(torch.uint8).fill_(_UNTOUCHED)
                module._buffers[name] = found[f"{path}.{name}" if path else name] = fresh
    twin.initialize_weights()  # type: ignore[no-untyped-call]
    untouched = (bool((each.reshape(-1).view(torch.uint8) == _UNTOUCHED).all()) for each in found.values())
    if any(untouched):
        return None
    return found


def convert(folder: Path, model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Load the model with its weights, on the CPU, by the library's own loading. Raises `EngineError`."""
    # With `output_loading_info` it gives a pair, which its signature doesn't say.
    load: Callable[..., tuple[PreTrainedModel, Mapping[str, Collection[str]]]] = type(model).from_pretrained  # type: ignore[assignment]
    try:
        loaded, info = load(
            folder,
            config=copy.deepcopy(model.config),
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:
        if errors.ran_out(error):
            # Without the cause: its traceback would hold on to the memory.
            raise MemoryError(f"converting the checkpoint: {faults.shown(str(error))}") from None
        # Sizes that don't fit are a RuntimeError, damaged files the library's own classes.
        raise faults.invalid(selection.SINGLE, "", f"can't be loaded: {faults.shown(str(error))}") from error
    for key, what in (
        ("missing_keys", "is missing"),
        ("mismatched_keys", "has another shape than the model's"),
        ("unexpected_keys", "is no tensor of this model"),
    ):
        if names := sorted(map(str, info[key])):
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise faults.invalid(selection.SINGLE, names[0], f"{what}{more}")
    loaded.eval()  # type: ignore[no-untyped-call]
    return loaded
