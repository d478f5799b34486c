"""OCR models behind HTTP, on a GPU only while requests need them.

From the top down; each room names its modules in its own `__init__`:

- `__main__`: the process.
- `cli`: the commands: what each takes, and how it is carried out.
- `check`: whether a server would work here, and why not.
- `greeting`: what a server says at its start: where it is reached, and what it serves on.
- `healthcheck`: asks the server of this container whether it serves.
- `mcp_stdio`: tools for an assistant on this machine.
- `library`: the manager of models for other programs, without the server.
- `app`: puts the server together and runs it.
- `api`: HTTP in, HTTP out, a folder for each dialect.
- `jobs`: long documents, read page by page beside other requests.
- `manager`: the owner task of all models, and leases.
- `workers`: worker processes.
- `engines`: the runtimes of weights.
- `scheduling`: which model holds the GPU and which request may use it; pure.
- `device`: the GPU, and the accounting of its memory.
- `checkpoints`: from a hub or a folder to verified weights in host memory.
- `families`: what a family of models is asked and how its answer is read; pure.
- `layout`: lines with places become blocks in reading order, and Markdown; pure.
- `documents`: bytes from outside become pages.
- `connections`: how many clients are connected, and for how long.
- `config`: configuration of this process: environment, FILE, live settings.
- `protocol`: what crosses between the server and a worker process.
- `metrics`: the server's Prometheus metrics.
- `limits`: cores and host memory that this process may use.
- `errors`: what can go wrong between a client and the server.
- `logs`: the format of log lines.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ocr_inference.library.manager import GPUResourceManager
    from ocr_inference.library.process_manager import get_gpu_manager
    from ocr_inference.library.refusals import Closed, NoRoom
    from ocr_inference.library.shared_gpu import SharedGPU

__all__ = ["Closed", "GPUResourceManager", "NoRoom", "SharedGPU", "get_gpu_manager"]

try:
    __version__ = version("ocr-operator")
except PackageNotFoundError:
    __version__ = "0+source"  # run from a checkout that isn't installed, as on a machine that lends its GPU

_HOMES = {
    "Closed": "refusals",
    "GPUResourceManager": "manager",
    "NoRoom": "refusals",
    "SharedGPU": "shared_gpu",
    "get_gpu_manager": "process_manager",
}
"""Modules of `library` that have the names for other programs: imported when they are asked for, since the server's own
processes import this package and need none of them."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"ocr_inference.library.{_HOMES[name]}"), name)
