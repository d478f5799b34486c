"""The README's first command says what the README says."""

import subprocess
import sys

from tests.support.paths import ROOT

COMMAND = "$ .venv/bin/ocr-inference read examples/invoice.png\n"


def test_reading_the_example_prints_what_stands_below_its_command() -> None:
    _, _, below = (ROOT / "README.md").read_text(encoding="utf-8").partition(COMMAND)
    shown, _, _ = below.partition("```\n")
    command = [sys.executable, "-m", "ocr_inference", "read", "examples/invoice.png"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == shown
