"""Where checkpoints come from: a repository of a hub, or a folder that is mounted. Runs in the worker process.

`fetch` ends with a folder that `check` has found in order, or with an `EngineError` that names repository or folder,
file and field. Nothing that comes from a source is executed: of a repository only weights as safetensors,
configuration and tokenizer files are ever written to a disk.
"""

from ocr_inference.checkpoints.sources.checking import check
from ocr_inference.checkpoints.sources.fetching import Checkpoint, fetch

__all__ = ["Checkpoint", "check", "fetch"]
