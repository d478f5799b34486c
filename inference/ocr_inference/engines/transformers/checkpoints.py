"""Opens a checkpoint's folder: a model on `meta`, its processor and its family, without remote code.

No weights are read here. What a folder contains is bounded and checked before a library acts on it (`configs`,
`sources.check`); any fault is an `EngineError` that names file and field.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedConfig, PreTrainedModel

from ocr_inference.checkpoints import sources
from ocr_inference.checkpoints.sources import faults
from ocr_inference.checkpoints.weights import reading
from ocr_inference.checkpoints.weights.header import BadWeights
from ocr_inference.engines.transformers import architecture, chatting, configs, torchweights
from ocr_inference.engines.transformers.chatting import Chat
from ocr_inference.engines.transformers.configs import Config
from ocr_inference.engines.transformers.inputs import Grounded, Inputs
from ocr_inference.families import CHAT, DEEPSEEK_OCR, Family, deepseek_ocr, deepseek_ocr2, grounded
from ocr_inference.protocol.engine import InferRequest

DTYPES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
BFLOAT16_CAPABILITY: Final = (8, 0)
"""Compute capability below which devices compute in bfloat16 slowly or not at all."""
MAX_CONTEXT: Final = 1 << 20
TOKENIZER: Final = "tokenizer.json"


@dataclass(frozen=True)
class Opened:
    """Opened folder, with no weights read yet. Its functions may be called by several threads at once."""

    folder: Path
    family: Family
    model: PreTrainedModel
    """In eval mode, all tensors on `meta`, with the dtypes that they have when they are loaded."""
    dtype: torch.dtype
    attention: str
    """Attention that was chosen for the text decoder."""
    reasons: tuple[str, ...]
    """Reasons why something that was requested, or that the checkpoint names, isn't used: for the log."""
    conversion_needed: bool
    """Whether the checkpoint's tensors differ from the model's by name, shape or dtype, so that only `converted`
    makes them the model's."""
    eos_ids: frozenset[int]
    max_context: int
    """Tokens of prompt and answer together."""
    prepare: Callable[[InferRequest], Inputs]
    """Decode the page and build the prompt; raises `EngineError`."""
    smaller: Callable[[InferRequest, Inputs | None], tuple[str, ...]]
    """Sizes below the one that a request is read at, largest first; the inputs are None where they couldn't be made."""
    decode: Callable[[Sequence[int]], str]
    """Text of written tokens, without the ends of answers."""
    buffers: Callable[[], Mapping[str, torch.Tensor]]
    """Values of the buffers that no checkpoint holds, by the model's names."""
    converted: Callable[[], PreTrainedModel]
    """Load the model with its weights, on the CPU, by transformers' own loading: slow, for any layout of a
    checkpoint."""


def open(  # noqa: A001 it is used as `checkpoints.open`
    folder: Path,
    dtype: str = "auto",
    attention: str = "auto",
    *,
    device: str = "cpu",
    capability: tuple[int, int] | None = None,
    unread: bool = True,
) -> Opened:
    """Open a folder; raises `EngineError` that names file and field.

    `capability` is the CUDA device's compute capability. Where the weights are in host memory already (not `unread`),
    what is about reading them is left out, a third of the time: `conversion_needed` and `buffers` have no meaning then.
    """
    sources.check(folder)
    config = configs.read(folder)
    precision = _precision(dtype, device, capability)
    built = architecture.build(config.native, precision, attention, device)
    computed = architecture.buffers(built.model) if unread else {}
    text = config.native.get_text_config(decoder=True)
    eos = configs.eos_ids(folder, config.native)
    context = min(int(getattr(text, "max_position_embeddings", MAX_CONTEXT)), MAX_CONTEXT)
    prepare: Grounded | Chat
    if config.family is CHAT:
        prepare = chatting.open_chat(folder, config.model_type, config.native, precision, context)
        tokenizer, mark = prepare.tokenizer, prepare.image_mark
    else:
        tokenizer, mark = _tokenizer(folder), grounded.IMAGE_MARK
        prepare = _grounded(config, tokenizer, precision, context)
    _check_tokenizer(tokenizer, mark, eos, config.native)
    ends = eos | {getattr(text, name, None) for name in ("bos_token_id", "pad_token_id")}
    return Opened(
        folder=folder,
        family=config.family,
        model=built.model,
        dtype=precision,
        attention=built.attention,
        reasons=(*config.reasons, *built.reasons),
        conversion_needed=unread and (computed is None or not _is_plain(folder, built.model)),
        eos_ids=eos,
        max_context=context,
        prepare=prepare,
        smaller=prepare.smaller,
        decode=lambda ids: tokenizer.decode(
            [each for each in ids if each not in ends], skip_special_tokens=False
        ),
        buffers=lambda: computed or {},
        converted=lambda: architecture.convert(folder, built.model, precision),
    )


def _is_plain(folder: Path, model: PreTrainedModel) -> bool:
    """Whether the files hold the model's own tensors, and nothing else."""
    entries, ties = torchweights.entries(model)
    ignored = [*(model._keys_to_ignore_on_load_unexpected or ()), *(f"^{re.escape(name)}$" for name in ties)]
    try:
        with reading.Checkpoint.open(folder, within=Path("/")) as files:
            plain = files.fits(entries)
            if plain:
                files.check(entries, ignored=ignored)
            return plain
    except BadWeights as error:
        raise faults.invalid("", "", str(error)) from error


def _precision(dtype: str, device: str, capability: tuple[int, int] | None) -> torch.dtype:
    """Return the dtype for `auto`: what the device computes fast and right."""
    if dtype != "auto":
        return DTYPES[dtype]
    if device != "cuda":
        return torch.float32
    return torch.float16 if capability is not None and capability < BFLOAT16_CAPABILITY else torch.bfloat16


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:
        # The library raises plain `Exception`.
        raise faults.invalid(TOKENIZER, "", f"is no tokenizer: {faults.shown(str(error))}") from error


def _check_tokenizer(
    tokenizer: Tokenizer, image_mark: str | None, eos: frozenset[int], config: PreTrainedConfig
) -> None:
    """Check that the tokenizer is this model's: tokens of another one would be read as other words, or as none."""
    size = config.get_text_config(decoder=True).vocab_size
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if highest >= size:
        message = f"token {highest} is beyond the model's {size} ({configs.CONFIG}: vocab_size)"
        raise faults.invalid(TOKENIZER, "vocab", message)
    wanted = getattr(config, "image_token_id", None)
    found = tokenizer.token_to_id(image_mark) if image_mark else None
    if image_mark and wanted is not None and found != wanted:
        message = f"has id {found}, the model's is {wanted}: the tokenizer is another model's"
        raise faults.invalid(TOKENIZER, image_mark, message)
    if unknown := [each for each in eos if tokenizer.id_to_token(each) is None]:
        raise faults.invalid(
            TOKENIZER, "eos_token_id", f"token {min(unknown)}, which ends answers, doesn't exist"
        )


def _grounded(config: Config, tokenizer: Tokenizer, dtype: torch.dtype, context: int) -> Grounded:
    version = deepseek_ocr if config.family is DEEPSEEK_OCR else deepseek_ocr2
    return Grounded(
        tokenizer=tokenizer,
        bos=config.native.get_text_config(decoder=True).bos_token_id or 0,
        resolutions=version.RESOLUTIONS,
        default=version.DEFAULT_RESOLUTION,
        image_tokens=version.image_tokens,
        says_grid=config.family is DEEPSEEK_OCR,
        guard=version.GUARD,
        dtype=dtype,
        max_context=context,
    )
