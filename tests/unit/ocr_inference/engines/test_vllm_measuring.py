"""Size of a checkpoint's weights, where the driver doesn't say what a server of vLLM takes."""

import json
from pathlib import Path

from ocr_inference.engines.vllm import measuring


def files(folder: Path, **sizes: int) -> None:
    for name, size in sizes.items():
        (folder / f"{name}.safetensors").write_bytes(bytes(size))


def test_weights_are_the_files_that_the_index_names(tmp_path: Path) -> None:
    """Mistral's models have them once more, in another format; a shard has many tensors."""
    files(tmp_path, one=10, two=300, consolidated=310, model=4000)
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "c": "one.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert measuring.weights_bytes(tmp_path) == 310


def test_weights_without_an_index_are_one_file(tmp_path: Path) -> None:
    files(tmp_path, model=10, consolidated=10)
    assert measuring.weights_bytes(tmp_path) == 10
