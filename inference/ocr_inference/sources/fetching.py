"""From what a model's configuration says to a folder on a disk."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ocr_inference.engine import ModelSpec, Report


@dataclass(frozen=True)
class Checkpoint:
    folder: Path
    """Complete and checked; read only."""
    revision: str | None
    """The commit, where it comes from a hub."""
    key: str
    """Names the content: equal keys, equal files. For what is derived from a checkpoint and kept beside it."""


def fetch(
    spec: ModelSpec, cache_dir: Path, report: Report, environ: Mapping[str, str] | None = None
) -> Checkpoint:
    """The model's checkpoint: the mounted folder, or the hub's files in `cache_dir`, downloaded where they lack.

    A `revision` that is a commit needs no network once its files are complete. Raises `EngineError`; what was
    downloaded so far is kept for the next try, apart from complete checkpoints. `environ` (the process's, if None)
    has `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE`.
    """
    del spec, cache_dir, report, environ
    raise NotImplementedError(os.name)
