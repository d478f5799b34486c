"""What a server doesn't import before it is needed: each costs memory in every pod."""

import subprocess
import sys

from tests.support.patience import PATIENCE

LATER = {
    "mcp",
    "mcp_types",
    "starlette",
    "pydantic",
    "torch",
    "transformers",
    "onnxruntime",
    "pypdfium2",
    "PIL",
    "pikepdf",
    "docx",
    "lxml",
    "markdown_it",
}


def test_a_server_starts_without_what_only_some_calls_need() -> None:
    code = "import ocr_inference.__main__, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert set(done.stdout.split()) & LATER == set()
