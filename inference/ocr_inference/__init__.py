"""OCR models behind HTTP, on a GPU only while requests need them.

Rooms: `protocol`, `config`, `documents`, `families`, `checkpoints`, `engines`, `scheduling`, `device`, `workers`,
`manager`, `api`; each names its modules in its `__init__`. At the top:

- `__main__`: the command line.
- `app`: puts the server together and runs it.
- `reader`: reads a document without a server.
- `metrics`: the server's Prometheus metrics.
- `errors`: what can go wrong between a client and the server.
- `logs`: the format of log lines.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ocr-operator")
except PackageNotFoundError:
    __version__ = "0+source"  # run from a checkout that isn't installed, as on a machine that lends its GPU
