"""The suite of all engines, passed by `transformers` with a tiny checkpoint."""

import json
from pathlib import Path

import pytest

from ocr_inference.protocol.engine import ModelSpec
from tests.support.enginesuite import EngineSuite

pytest.importorskip("torch", reason="needs the extra `transformers`")

from tests.support import chatmodels, checkpoints


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny one, of a model that knows no end: its context ends answers."""
    folder = tmp_path_factory.mktemp("checkpoint")
    config = chatmodels.make(folder, "lighton_ocr") / "config.json"
    text = json.loads(config.read_text())["text_config"]
    checkpoints.edit_json(config, text_config={**text, "max_position_embeddings": 96})
    return folder


class TestTransformers(EngineSuite):
    engine = "transformers"

    @pytest.fixture
    def spec(self, checkpoint: Path, tmp_path: Path) -> ModelSpec:
        # Where ready means that something is on a device.
        return ModelSpec(
            name="m", engine=self.engine, device="simulated", path=str(checkpoint), cache_dir=str(tmp_path)
        )
