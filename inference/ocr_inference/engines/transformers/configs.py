"""Turns a checkpoint's config.json into a configuration of transformers, and nothing else: no code of the checkpoint.

What could make the library fetch, execute or allocate something is dropped or refused here.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from transformers import AutoConfig, PreTrainedConfig, UnlimitedOcrConfig
from transformers.models.auto.auto_mappings import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from ocr_inference.checkpoints.sources import checking, faults, selection
from ocr_inference.families import CHAT, DEEPSEEK_OCR, DEEPSEEK_OCR2, Family, deepseek_ocr, deepseek_ocr2

CONFIG: Final = selection.CONFIG
GENERATION: Final = "generation_config.json"

DROPPED: Final = frozenset(
    {
        "auto_map",  # code of the checkpoint's own
        *(
            "attn_implementation",
            "_attn_implementation",
            "_attn_implementation_internal",
        ),  # may name a download
        *("experts_implementation", "_experts_implementation", "_experts_implementation_internal"),
        *("use_pretrained_backbone", "transformers_weights", "_name_or_path", "_commit_hash"),
    }
)
_MOST: Final[Mapping[str, int]] = {"layer": 1024, "depth": 1024, "expert": 4096, "block": 4096, "head": 4096}
"""Bound of a number, by a part of its name. Modules are made one by one, so these cost time and memory before the
weights are compared with the model; real models stay far below."""
_MOST_ANYTHING: Final = 1 << 31


@dataclass(frozen=True)
class Config:
    family: Family
    native: PreTrainedConfig
    model_type: str
    """Dtype that the checkpoint names."""
    reasons: tuple[str, ...]
    """Reasons why something that the checkpoint names isn't used."""


def read(folder: Path) -> Config:
    """Read the configuration; raises `EngineError` that names the field."""
    raw = read_object(folder, CONFIG)
    if "quantization_config" in raw:
        raise faults.invalid(CONFIG, "quantization_config", "quantised checkpoints are not supported")
    _bounded(raw, "")
    model_type = raw.get("model_type")
    has_code = "auto_map" in raw
    reasons = (f"{CONFIG}: auto_map is dropped: no code of a checkpoint is executed",) if has_code else ()
    if model_type == deepseek_ocr.MODEL_TYPE:
        try:
            arguments = deepseek_ocr.native_config(raw)
        except deepseek_ocr.UnfitConfig as error:
            raise faults.invalid(CONFIG, error.field, error.message) from error
        native = _made(UnlimitedOcrConfig, without(arguments))
        return Config(DEEPSEEK_OCR, native, model_type, reasons)
    if not isinstance(model_type, str) or not is_known(model_type):
        code = ", and the code that auto_map names is not executed" if has_code else ""
        message = f"{faults.shown(str(model_type))!r} is not an image-to-text model that is known here{code}"
        raise faults.invalid(CONFIG, "model_type", message)
    fields = without(raw)
    for key in ("model_type", "architectures", "transformers_version", "dtype", "torch_dtype"):
        fields.pop(key, None)
    family = DEEPSEEK_OCR2 if model_type == deepseek_ocr2.MODEL_TYPE else CHAT
    return Config(family, _made(AutoConfig.for_model, fields, model_type), model_type, reasons)


def is_known(model_type: str) -> bool:
    return model_type in CONFIG_MAPPING_NAMES and model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES


def read_object(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON file of the checkpoint; empty where an optional one is missing."""
    limit = selection.limit(name) or 0
    try:
        with open(folder / name, "rb") as file:
            if os.fstat(file.fileno()).st_size > limit:
                raise faults.invalid(name, "", f"has more than {limit} bytes")
            return checking.parse_object(file.read(limit), name)
    except FileNotFoundError:
        if name != CONFIG:
            return {}
        raise faults.invalid(name, "", "is missing") from None


def without(value: Any) -> Any:
    """Return it without the fields that are dropped, at any depth."""
    if isinstance(value, dict):
        return {key: without(each) for key, each in value.items() if key not in DROPPED}
    return [without(each) for each in value] if isinstance(value, list) else value


def _bounded(value: Any, at: str) -> None:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in items:
        path = f"{at}.{key}" if at else str(key)
        if isinstance(each, dict | list):
            _bounded(each, path)
        elif isinstance(each, int | float) and not isinstance(each, bool):
            most = min(
                (most for part, most in _MOST.items() if part in path.rsplit(".", 1)[-1]),
                default=_MOST_ANYTHING,
            )
            if not -_MOST_ANYTHING <= each <= most:
                raise faults.invalid(CONFIG, path, f"{each} is more than {most}")


def _made(make: Any, fields: Mapping[str, Any], *positional: str) -> PreTrainedConfig:
    try:
        config = make(*positional, **fields)
    except Exception as error:
        # The library raises what its validators do: ValueError, TypeError, KeyError, its own classes.
        raise faults.invalid(CONFIG, "", f"doesn't describe a model: {faults.shown(str(error))}") from error
    assert isinstance(config, PreTrainedConfig)
    return config


def eos_ids(folder: Path, config: PreTrainedConfig) -> frozenset[int]:
    """Return tokens that end an answer: those of the generation's configuration, else of the text model, else of the
    model."""
    said = read_object(folder, GENERATION).get("eos_token_id")
    where = GENERATION
    if said is None:
        text, where = config.get_text_config(decoder=True), CONFIG
        said = getattr(text, "eos_token_id", None)
    if said is None:
        said = getattr(config, "eos_token_id", None)
    found = said if isinstance(said, list | tuple) else [said]
    if not found or not all(isinstance(each, int) and not isinstance(each, bool) for each in found):
        raise faults.invalid(where, "eos_token_id", "is neither a token id nor a list of them")
    return frozenset(found)
