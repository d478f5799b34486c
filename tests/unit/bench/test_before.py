"""Which build a measurement's second server is."""

import os
from pathlib import Path

import pytest

from bench import before


def test_a_server_is_of_the_build_that_its_environment_leads_to(tmp_path: Path) -> None:
    package = tmp_path / "inference" / "ocr_inference"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    other = {**os.environ, "PYTHONPATH": str(tmp_path / "inference")}
    before.require_build(tmp_path, other)
    before.require_build(before.ROOT, os.environ)
    with pytest.raises(RuntimeError, match="is of another build"):
        before.require_build(tmp_path, os.environ)
    with pytest.raises(RuntimeError, match="is of another build"):
        before.require_build(before.ROOT, other)
