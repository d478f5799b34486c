#!/usr/bin/env bash
# Guess: `request.content_type` of an aiohttp server is the header up to its first semicolon: a microsecond, whoever sends it.
# What happens (aiohttp 3.14.5): the header is parsed as one of an e-mail, by Python's `email` package, and kept in a
#   cache of 56 headers. A form's header has a boundary that its client draws anew for each request, so no form is ever
#   found there: each costs a fifth of a millisecond, about a hundred times what the same header costs the second time.
# Why it matters here: pages come as forms, and this was about a tenth of what a small page cost our server. We cut the
#   header at the semicolon ourselves.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check aiohttp==3.14.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import statistics
import time
import uuid

from aiohttp.test_utils import make_mocked_request


def seconds(header):
    request = make_mocked_request("POST", "/", headers={"Content-Type": header})
    began = time.perf_counter()
    assert request.content_type == "multipart/form-data"
    return time.perf_counter() - began


def form():
    return f"multipart/form-data; boundary={uuid.uuid4().hex}"


seconds(form())
new = statistics.median(seconds(form()) for _ in range(500))
same = form()
known = statistics.median(seconds(same) for _ in range(500))
began = time.perf_counter()
for _ in range(500):
    assert same.partition(";")[0].strip().lower() == "multipart/form-data"
cut = (time.perf_counter() - began) / 500
print("aiohttp", importlib.metadata.version("aiohttp"))
print(f"a new boundary: {new * 1e6:.0f} µs; the same again: {known * 1e6:.1f} µs; cut at the semicolon: {cut * 1e6:.2f} µs")
assert new > 20 * known, "a new boundary costs no more than a known one any longer"
PYTHON
