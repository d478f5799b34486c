"""OCR models behind HTTP, on a GPU only while requests need them.

From the top down; each room names its modules in its own `__init__`:

- `__main__`: the command line.
- `reader`: reads a document without a server.
- `app`: puts the server together and runs it.
- `api`: HTTP in, HTTP out, a folder for each dialect.
- `manager`: the owner task of all models, and leases.
- `workers`: worker processes.
- `engines`: the runtimes of weights.
- `scheduling`: which model holds the GPU and which request may use it; pure.
- `device`: the GPU, and the accounting of its memory.
- `checkpoints`: from a hub or a folder to verified weights in host memory.
- `families`: what a family of models is asked and how its answer is read; pure.
- `documents`: bytes from outside become pages.
- `config`: configuration of this process: environment, FILE, live settings.
- `protocol`: what crosses between the server and a worker process.
- `metrics`: the server's Prometheus metrics.
- `errors`: what can go wrong between a client and the server.
- `logs`: the format of log lines.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ocr-operator")
except PackageNotFoundError:
    __version__ = "0+source"  # run from a checkout that isn't installed, as on a machine that lends its GPU
