"""Whether a folder holds a checkpoint that can be read safely, judged without reading its weights."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Findings:
    weights: tuple[str, ...]
    """File names of the shards, in order."""
    remote_code: tuple[str, ...]
    """`file: class` of each `auto_map` entry: code that the checkpoint names and that is not executed."""


def check(folder: Path) -> Findings:
    """Look at a checkpoint's files; raises `EngineError` that names file and field."""
    raise NotImplementedError(folder)
