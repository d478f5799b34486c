"""Which files make a checkpoint, and how large each may be. Pure.

What isn't listed here is neither downloaded nor read: no pickled weights, no Python, nothing in sub-folders.
"""

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Final

from ocr_inference.checkpoints.sources import faults

CONFIG: Final = "config.json"
INDEX: Final = "model.safetensors.index.json"
SINGLE: Final = "model.safetensors"

WEIGHTS: Final = ".safetensors"

MAX_FILES: Final = 10_000
"""Entries of a repository or folder; more is no checkpoint."""

_MIB = 1 << 20
JSON_LIMITS: Final[Mapping[str, int]] = {
    CONFIG: 4 * _MIB,
    "generation_config.json": 1 * _MIB,
    "preprocessor_config.json": 1 * _MIB,
    "processor_config.json": 1 * _MIB,
    "video_preprocessor_config.json": 1 * _MIB,
    "tokenizer_config.json": 16 * _MIB,
    "special_tokens_map.json": 4 * _MIB,
    "added_tokens.json": 16 * _MIB,
    "chat_template.json": 4 * _MIB,
}
"""Files that are JSON objects of a few kilobytes, as a rule; tokens that were added make some of them longer."""

TEXT_LIMITS: Final[Mapping[str, int]] = {
    INDEX: 32 * _MIB,
    "chat_template.jinja": 4 * _MIB,
    "tokenizer.json": 128 * _MIB,
    "vocab.json": 64 * _MIB,
    "merges.txt": 64 * _MIB,
    "vocab.txt": 64 * _MIB,
    "tokenizer.model": 64 * _MIB,
    "spiece.model": 64 * _MIB,
    "sentencepiece.bpe.model": 64 * _MIB,
    "qwen.tiktoken": 64 * _MIB,
}
"""Vocabularies of 250,000 tokens take about 35 MB as `tokenizer.json`, the most spacious form."""

TOKENIZERS: Final = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"),
    *("spiece.model", "sentencepiece.bpe.model", "qwen.tiktoken"),
)
"""One of these makes a tokenizer."""

PICKLES: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".h5", ".msgpack"})
"""Weights in formats that run code on loading, or that nothing here reads."""


def limit(name: str) -> int | None:
    """Return the bytes that a file may have; None where nothing but the disk bounds it (weights)."""
    return JSON_LIMITS.get(name, TEXT_LIMITS.get(name))


def supporting(names: Collection[str]) -> tuple[str, ...]:
    """Return the files of a checkpoint apart from its weights: small ones, the configuration first."""
    return tuple(name for name in (*JSON_LIMITS, *TEXT_LIMITS) if name in names and name != INDEX)


def require(names: Collection[str], where: str) -> None:
    """Refuse what can't be a checkpoint by its files' names; `where` names the repository or folder."""
    if CONFIG not in names:
        raise faults.invalid("", "", f"{where} has no {CONFIG}: it is not a checkpoint of transformers")
    if SINGLE not in names and INDEX not in names:
        pickled = sorted(name for name in names if PurePosixPath(name).suffix in PICKLES)
        if pickled:
            message = f"{where} has its weights only as {faults.shown(pickled[0])}, which can run code when it is read"
            raise faults.invalid("", "", f"{message}: convert them to {SINGLE}")
        raise faults.invalid(
            "", "", f"{where} has neither {SINGLE} nor {INDEX}: there are no weights to load"
        )
    if not any(name in names for name in TOKENIZERS):
        raise faults.invalid("", "", f"{where} has no tokenizer: one of {', '.join(TOKENIZERS)} is needed")


def shards(weight_map: Mapping[str, str], names: Collection[str]) -> tuple[str, ...]:
    """Return the weight files that an index names, in order: each must be there, beside it."""
    found = sorted(set(weight_map.values()))
    for name in found:
        if name not in names:
            raise faults.invalid(INDEX, "weight_map", f"names {faults.shown(name)}, which doesn't exist")
    return tuple(found)


def is_plain(name: str) -> bool:
    """Return whether a name stays in its folder."""
    return (
        bool(name)
        and name not in {".", ".."}
        and not any(char in name for char in "/\\\0")
        and len(name) <= 255
    )
