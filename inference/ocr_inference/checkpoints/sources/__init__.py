"""Where checkpoints come from: a repository of a hub, or a folder that is mounted. Runs in the worker process.

`fetch` ends with a folder that `check` has found in order, or with an `EngineError` that names repository or folder,
file and field. Nothing that comes from a source is executed: of a repository only weights as safetensors,
configuration and tokenizer files are ever written to a disk.

- `fetching`: from what a model's configuration says to a folder on a disk.
- `selection`: which files make a checkpoint, and how large each may be.
- `hub`: requests to a hub.
- `listing`: what a hub says of the files of a commit.
- `way_out`: what is wrong with proxies and certificates in the environment.
- `downloading`: the download of a checkpoint, small files first.
- `part`: a file that is not complete yet.
- `cache`: the hub's cache on the disk.
- `checking`: whether a folder holds a checkpoint that can be read safely.
- `retry_policy`: timeouts and retries of a download.
- `faults`: the ways in which a source fails.
"""

from ocr_inference.checkpoints.sources.checking import check
from ocr_inference.checkpoints.sources.fetching import Checkpoint, fetch

__all__ = ["Checkpoint", "check", "fetch"]
