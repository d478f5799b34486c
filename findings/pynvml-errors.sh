#!/usr/bin/env bash
# Guess: every error of nvidia-ml-py is an NVMLError, and errors can be kept in a set or compared, as other exceptions.
# What happens (nvidia-ml-py 13.615.71): NVMLError defines __eq__ without __hash__, so a set of errors raises TypeError,
#   and `error == ValueError()` raises AttributeError instead of being False. NVMLLibraryMismatchError, raised by the
#   lists of processes where the driver's library lacks a symbol, is no NVMLError: `except NVMLError` lets it through.
#   The wheel also puts a module named `example` on the top level of site-packages.
# Why it matters here: an exporter that keeps "errors already reported" in a set, or catches NVMLError around a reading,
#   ends on the first driver fault, or on an older driver. Ours reports each as text, and lists no processes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nvidia-ml-py==13.615.71
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import importlib.util

import pynvml

print("nvidia-ml-py", importlib.metadata.version("nvidia-ml-py"))
failed = []


def raises(what, action, expected):
    try:
        found = repr(action())
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    print(f"{what} -> {found}")
    if not found.startswith(expected):
        failed.append(what)


error = pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
raises("{NVMLError(GPU_IS_LOST)}", lambda: {error}, "TypeError")
raises("NVMLError == ValueError()", lambda: error == ValueError(), "AttributeError")
raises(
    "issubclass(NVMLLibraryMismatchError, NVMLError)",
    lambda: issubclass(pynvml.NVMLLibraryMismatchError, pynvml.NVMLError),
    "False",
)
raises("a top-level module named example", lambda: importlib.util.find_spec("example") is not None, "True")
raise SystemExit(f"changed: {failed}" if failed else 0)
PYTHON
