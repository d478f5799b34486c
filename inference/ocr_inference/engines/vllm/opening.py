"""What has to be known of a checkpoint to ask vLLM and to read its answers: from its small files, without a library."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from ocr_inference.checkpoints.sources import checking, faults, selection
from ocr_inference.families import (
    CHAT,
    DEEPSEEK_OCR,
    DEEPSEEK_OCR2,
    Family,
    chat,
    deepseek_ocr,
    deepseek_ocr2,
)
from ocr_inference.families.loops import LoopGuard

TOKENIZER: Final = "tokenizer.json"
GENERATION: Final = "generation_config.json"
TEMPLATES: Final = ("chat_template.jinja", "chat_template.json")
PROCESSORS: Final = ("processor_config.json", "preprocessor_config.json")
_NORMALISES: Final = frozenset({"do_normalize", "do_rescale", "image_mean", "image_std"})


class _AddedToken(Struct):
    id: int
    content: str
    special: bool = False


class _Vocabulary(Struct):
    vocab: dict[str, int] | list[tuple[str, float]] = {}


class _Tokenizer(Struct):
    model: _Vocabulary
    added_tokens: list[_AddedToken] = []


@dataclass(frozen=True)
class Opened:
    """Checkpoint as far as requests to vLLM depend on it."""

    folder: Path
    family: Family
    model_type: str
    eos_ids: tuple[int, ...]
    """Tokens that end an answer, besides those that vLLM knows by itself."""
    guard: LoopGuard
    marks: re.Pattern[str]
    """The tokenizer's own tokens, longest first: in a prompt of a person's they would be instructions."""
    says_normalisation: bool
    """Whether its files have the mean and the deviation of pixels, which are the processor's own otherwise."""


def open(folder: Path) -> Opened:  # noqa: A001 it is used as `opening.open`
    """Open a folder that `sources` has checked; raises `EngineError` that names file and field."""
    config = _object(folder, selection.CONFIG)
    model_type = str(config.get("model_type"))
    family = _family(model_type, config)
    tokenizer = _tokenizer(folder)
    if family is CHAT and not _has_template(folder):
        message = f"is missing: models of type {model_type} are asked in a chat"
        raise faults.invalid(TEMPLATES[0], "", message)
    own = sorted((each.content for each in tokenizer.added_tokens if each.content), key=len, reverse=True)
    return Opened(
        folder=folder,
        family=family,
        model_type=model_type,
        eos_ids=eos_ids(config, _object(folder, GENERATION)),
        guard=_guard(family, tokenizer),
        marks=re.compile("|".join(map(re.escape, own)) or "(?!)"),
        says_normalisation=_says_normalisation([_object(folder, each) for each in PROCESSORS]),
    )


def eos_ids(config: Mapping[str, Any], generation: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the tokens that end an answer, by the generation's configuration, else the text model's, else the
    model's; none where these leave it to the tokenizer."""
    text = config.get("text_config") or config.get("language_config")
    places = (generation, text if isinstance(text, dict) else {}, config)
    said = next((found for place in places if (found := place.get("eos_token_id")) is not None), ())
    ids = said if isinstance(said, list | tuple) else [said]
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in ids):
        raise faults.invalid(selection.CONFIG, "eos_token_id", "is neither a token id nor a list of them")
    return tuple(sorted(set(ids)))


def _says_normalisation(configs: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether all files that say something of it say all."""
    inner = [config.get("image_processor", config) for config in configs]
    said = [
        {key for key in _NORMALISES if each.get(key) is not None} for each in inner if isinstance(each, dict)
    ]
    return any(said) and all({"image_mean", "image_std"} <= each for each in said if each)


def _family(model_type: str, config: Mapping[str, Any]) -> Family:
    if model_type == deepseek_ocr.MODEL_TYPE:
        if deepseek_ocr.ARCHITECTURE not in (config.get("architectures") or ()):
            message = (
                f"{deepseek_ocr.ARCHITECTURE} is missing: of {model_type} models only DeepSeek-OCR is known"
            )
            raise faults.invalid(selection.CONFIG, "architectures", message)
        return DEEPSEEK_OCR
    return DEEPSEEK_OCR2 if model_type == deepseek_ocr2.MODEL_TYPE else CHAT


def _guard(family: Family, tokenizer: _Tokenizer) -> LoopGuard:
    if family is not CHAT:
        return deepseek_ocr.GUARD if family is DEEPSEEK_OCR else deepseek_ocr2.GUARD
    vocabulary = tokenizer.model.vocab
    known = dict(vocabulary) if isinstance(vocabulary, dict) else {}
    if isinstance(vocabulary, list):
        known = {text: number for number, (text, _) in enumerate(vocabulary)}
    known |= {each.content: each.id for each in tokenizer.added_tokens}
    allowed = frozenset(known[tag] for tag in chat.CELL_TAGS if tag in known)
    return LoopGuard(chat.GUARD.ngram, chat.GUARD.window, allowed)


def _tokenizer(folder: Path) -> _Tokenizer:
    """Read the tokenizer: vLLM finds only after minutes that there is none."""
    try:
        data = (folder / TOKENIZER).read_bytes()
        return msgspec.json.decode(data, type=_Tokenizer)
    except OSError as error:
        raise faults.invalid(TOKENIZER, "", f"can't be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise faults.invalid(TOKENIZER, "", f"is no tokenizer: {faults.shown(str(error))}") from error


def _has_template(folder: Path) -> bool:
    if any((folder / name).exists() for name in TEMPLATES):
        return True
    return "chat_template" in _object(folder, "tokenizer_config.json")


def _object(folder: Path, name: str) -> dict[str, Any]:
    """Return a JSON object; an empty one where there is no such file. Its size was checked with the folder."""
    try:
        return checking.parse_object((folder / name).read_bytes(), name)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise faults.invalid(name, "", f"can't be read: {error.strerror}") from error
