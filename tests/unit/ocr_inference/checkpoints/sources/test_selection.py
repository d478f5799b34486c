"""Which files make a checkpoint: required ones, refused ones, names that stay in their folder."""

import pytest

from ocr_inference.checkpoints.sources import selection
from ocr_inference.protocol.engine import EngineError, FailureKind

GOOD = ("config.json", "tokenizer.json", "model.safetensors")


def refusal(*names: str) -> str:
    with pytest.raises(EngineError) as caught:
        selection.require(names, "folder x")
    assert caught.value.failure.kind is FailureKind.INVALID_CHECKPOINT
    return caught.value.failure.message


def test_a_checkpoint_has_configuration_tokenizer_and_weights() -> None:
    selection.require(GOOD, "folder x")
    selection.require(("config.json", "tokenizer.model", "model.safetensors.index.json"), "folder x")


def test_what_is_missing_is_named() -> None:
    assert "no config.json" in refusal("tokenizer.json", "model.safetensors")
    assert "no tokenizer" in refusal("config.json", "model.safetensors")
    assert "neither model.safetensors nor" in refusal("config.json", "tokenizer.json")
    assert "neither model.safetensors nor" in refusal("config.json", "tokenizer.json", "adapter.safetensors")


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "weights.pth", "a.ckpt", "b.pkl", "tf_model.h5"]
)
def test_weights_that_run_code_are_refused_by_name(name: str) -> None:
    message = refusal("config.json", "tokenizer.json", name)
    assert name in message
    assert "can run code" in message


def test_pickles_beside_safetensors_are_passed_over() -> None:
    selection.require((*GOOD, "pytorch_model.bin", "training_args.bin", "modeling_x.py"), "folder x")


def test_only_known_files_are_wanted_configuration_first() -> None:
    names = (
        *GOOD,
        "modeling_x.py",
        "pytorch_model.bin",
        "README.md",
        "generation_config.json",
        "runs/log.json",
    )
    assert selection.supporting(names) == ("config.json", "generation_config.json", "tokenizer.json")
    assert selection.limit("model.safetensors") is None
    assert all(selection.limit(name) for name in selection.supporting(names))


def test_shards_are_those_that_the_index_names_and_must_be_there() -> None:
    weight_map = {"b": "two.safetensors", "a": "one.safetensors", "c": "two.safetensors"}
    names = ("one.safetensors", "two.safetensors", "three.safetensors")
    assert selection.shards(weight_map, names) == ("one.safetensors", "two.safetensors")
    with pytest.raises(EngineError, match=r"weight_map: names two.safetensors, which doesn't exist"):
        selection.shards(weight_map, ("one.safetensors",))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/a", "a\\b", "a\0b", "x" * 256])
def test_names_that_leave_their_folder_are_not_plain(name: str) -> None:
    assert not selection.is_plain(name)


@pytest.mark.parametrize("name", ["config.json", "..a", ".hidden", "a b", "x" * 255])
def test_other_names_are_plain(name: str) -> None:
    assert selection.is_plain(name)
