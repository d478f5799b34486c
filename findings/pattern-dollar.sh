#!/usr/bin/env bash
# Guess: the `pattern` of a resource's definition can be copied into msgspec.Meta(pattern=…) or Python's `re`, and both
#   sides then accept the same texts.
# What happens (msgspec 0.22.0; google-re2 1.1.20251105 has the syntax of Go's regexp, which the API server uses for
#   `pattern`): for RE2, `$` is the end of the text. msgspec searches with `re`, where `$` also matches before a last
#   newline, so "m\n" passes, and \d, \w and \s take all of Unicode, so "١٢" is \d+ and a no-break space is \s. Python's
#   way to say "end of the text", \Z, is no pattern at all for RE2, so no one spelling is right on both sides (from
#   Python 3.14 on, \z is), and msgspec.json.schema writes out what it was given.
# Why it matters here: a model's name, checked by the same pattern in the cluster and in the server, ends up in paths,
#   labels and log lines; "m\n" from a file of settings is another name than "m". `ocr_wire.text.whole` turns the one
#   spelling into the other.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check msgspec==0.22.0 google-re2==1.1.20251105
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
from typing import Annotated

import msgspec
import re2

quiet = re2.Options()
quiet.log_errors = False
failed = []


def by_msgspec(pattern, text):
    try:
        msgspec.json.decode(msgspec.json.encode(text), type=Annotated[str, msgspec.Meta(pattern=pattern)])
    except msgspec.ValidationError:
        return "refuses"
    return "accepts"


def by_re2(pattern, text):
    try:
        return "accepts" if re2.compile(pattern, quiet).search(text) else "refuses"
    except re2.error:
        return "has no such pattern"


def compare(pattern, text, *expected):
    found = by_msgspec(pattern, text), by_re2(pattern, text)
    print(f"{pattern:10} {text!a:16} msgspec {found[0]}, RE2 {found[1]}")
    if found != expected:
        failed.append((pattern, text))


for package in ("msgspec", "google-re2"):
    print(package, importlib.metadata.version(package))
compare("^[a-z]+$", "m", "accepts", "accepts")
compare("^[a-z]+$", "m\n", "accepts", "refuses")
compare("^[a-z]+$", "m\n\n", "refuses", "refuses")
compare(r"^[a-z]+\Z", "m\n", "refuses", "has no such pattern")
compare(r"^[a-z]+\Z", "m", "accepts", "has no such pattern")
compare(r"^\d+$", "\u0661\u0662", "accepts", "refuses")
compare(r"^\w+$", "\u00e9", "accepts", "refuses")
compare(r"^\S+$", "a\u00a0b", "refuses", "accepts")
schema = msgspec.json.schema(Annotated[str, msgspec.Meta(pattern=r"^[a-z]+\Z")])
print("msgspec.json.schema writes", schema["pattern"])
if schema["pattern"] != r"^[a-z]+\Z":
    failed.append("schema")
raise SystemExit(f"changed: {failed}" if failed else 0)
PYTHON
