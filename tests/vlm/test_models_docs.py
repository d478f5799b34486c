"""What docs/engine-transformers.md says of model types that are written together is what the engine does."""

import re

import pytest

from tests.support.paths import DOCS

pytest.importorskip("torch", reason="needs the extra `transformers`")

from ocr_inference.engines.transformers import generation


def test_types_that_are_written_together() -> None:
    told = (DOCS / "engine-transformers.md").read_text(encoding="utf-8")
    row = next(line for line in told.splitlines() if "every other type" in line)
    names = [re.sub(r"\W", "", each).lower() for each in row.split("|")[1].split(",")]
    types = [each.replace("_", "") for each in generation.SLOT_TYPES]
    # DeepSeek-OCR runs by Unlimited-OCR's classes.
    assert sorted(names) == sorted([*types, "deepseekocr"])
