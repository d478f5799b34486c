"""Folders of strangers: what is wrong is named by file and field, and nothing outside is read."""

import json
import os
from pathlib import Path

import pytest

from ocr_inference.checkpoints import sources
from ocr_inference.checkpoints.sources import selection
from ocr_inference.protocol.engine import EngineError, FailureKind
from tests.support import hub as hubs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "checkpoint", hubs.checkpoint())


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def complaint(folder: Path) -> str:
    with pytest.raises(EngineError) as caught:
        sources.check(folder)
    assert caught.value.failure.kind is FailureKind.INVALID_CHECKPOINT
    return caught.value.failure.message


def test_a_good_checkpoint_tells_its_weights(folder: Path) -> None:
    findings = sources.check(folder)
    assert findings.weights == ("model.safetensors",)
    assert findings.remote_code == ()


def test_shards_are_told_in_order(tmp_path: Path) -> None:
    folder = written(tmp_path / "sharded", hubs.sharded())
    assert sources.check(folder).weights == (
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    )


def test_a_folder_that_is_not_there_is_unavailable_not_invalid(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"nowhere can't be read: No such file") as caught:
        sources.check(tmp_path / "nowhere")
    assert caught.value.failure.kind is FailureKind.SOURCE_UNAVAILABLE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "config.json: not JSON that can be read"),
        (b"{", "config.json: not JSON that can be read"),
        (b'{"model_type": "x"} trailing', "config.json: not JSON that can be read"),
        (b"\xff\xfe", "config.json: not JSON that can be read"),
        (b"[1]", "config.json: is a JSON array, not an object"),
        (b"null", "config.json: is a JSON value, not an object"),
        (b"{}", "config.json: model_type: is missing"),
        (b'{"model_type": 7}', "config.json: model_type: is missing"),
        (b'{"model_type": ""}', "config.json: model_type: is missing"),
        (b'{"model_type": "x", "auto_map": "y"}', "config.json: auto_map: is not an object"),
        (b'{"model_type": "x", "a": ' + b"[" * 70 + b"]" * 70 + b"}", "nested more than 64 levels"),
        (b"[" * 1_000_000, "config.json: "),
        (b'{"a":' * 500_000, "config.json: "),
        (b" " * (selection.JSON_LIMITS["config.json"] + 1), "4194304 are allowed"),
    ],
)
def test_a_configuration_that_is_none(folder: Path, content: bytes, message: str) -> None:
    (folder / "config.json").write_bytes(content)
    assert message in complaint(folder)


@pytest.mark.parametrize(
    "name", ["generation_config.json", "preprocessor_config.json", "tokenizer_config.json"]
)
def test_other_configurations_are_objects_too(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b'"text"')
    assert f"{name}: is a JSON string, not an object" in complaint(folder)


def test_a_tokenizer_of_gigabytes_is_not_read(folder: Path) -> None:
    os.truncate(folder / "tokenizer.json", 1 << 40)
    assert f"tokenizer.json: has {1 << 40} bytes; {128 << 20} are allowed" in complaint(folder)


def test_remote_code_is_reported(folder: Path) -> None:
    auto_map = {"AutoModel": "modeling_evil.Evil", "AutoConfig": "configuration_evil.Evil"}
    (folder / "config.json").write_text(json.dumps({"model_type": "x", "auto_map": auto_map}))
    (folder / "processor_config.json").write_text(json.dumps({"auto_map": {"AutoProcessor": "evil.P"}}))
    assert sources.check(folder).remote_code == (
        "config.json: AutoModel",
        "config.json: AutoConfig",
        "processor_config.json: AutoProcessor",
    )


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pytorch_model.bin, which can run code when it is read" in complaint(folder)


@pytest.mark.parametrize("size", [0, 1, 9])
def test_weights_too_short_for_a_header(folder: Path, size: int) -> None:
    os.truncate(folder / "model.safetensors", size)
    assert f"model.safetensors: {size} bytes are too few" in complaint(folder)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "../outside.safetensors"}, "weight_map"),
        ({"a": "/etc/passwd"}, "weight_map"),
        ({"a": "sub/model.safetensors"}, "weight_map"),
        ({"a": "pytorch_model.bin"}, "weight_map"),
        ({"a": "gone.safetensors"}, "weight_map: names gone.safetensors, which doesn't exist"),
        ({"a": 7}, "weight_map"),
        ({}, "weight_map"),
        ([], "weight_map"),
        (None, "weight_map"),
    ],
)
def test_an_index_that_points_elsewhere(tmp_path: Path, weight_map: object, message: str) -> None:
    written(tmp_path / "x", {"outside.safetensors": b"secret"})
    index = json.dumps({"weight_map": weight_map}).encode()
    folder = written(tmp_path / "checkpoint", {**hubs.sharded(), selection.INDEX: index})
    text = complaint(folder)
    assert text.startswith("model.safetensors.index.json")
    assert message in text


def test_links_that_leave_the_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret.json"
    outside.write_text('{"model_type": "x"}')
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(outside)
    assert f"config.json: is a link that leaves {folder}" in complaint(folder)


def test_links_within_the_folder_are_fine_as_mounts_have_them(folder: Path) -> None:
    data = folder / "..2026_11_23"
    data.mkdir()
    for name in hubs.checkpoint():
        (folder / name).rename(data / name)
    (folder / "..data").symlink_to(data.name)
    for name in hubs.checkpoint():
        (folder / name).symlink_to(Path("..data") / name)
    assert sources.check(folder).weights == ("model.safetensors",)


def test_a_link_to_the_folder_itself_is_fine(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert sources.check(tmp_path / "link").weights == ("model.safetensors",)


def hub_cache(root: Path, target: Path) -> Path:
    """A snapshot as the hub's own tools lay it out, its weights a link to `target`."""
    repo = root / "models--a--b"
    snapshot = written(repo / "snapshots" / ("c" * 40), hubs.checkpoint())
    (repo / "blobs").mkdir()
    target.parent.mkdir(parents=True, exist_ok=True)
    (snapshot / "model.safetensors").rename(target)
    (snapshot / "model.safetensors").symlink_to(os.path.relpath(target, snapshot))
    return snapshot


@pytest.mark.parametrize("place", ["models--a--b/blobs/abc", "blobs/ab/abc"])
def test_snapshots_of_the_hubs_own_cache_are_links_to_blobs(tmp_path: Path, place: str) -> None:
    assert sources.check(hub_cache(tmp_path, tmp_path / place)).weights == ("model.safetensors",)


@pytest.mark.parametrize("place", ["models--other/blobs/abc", "elsewhere/abc"])
def test_but_to_nothing_else(tmp_path: Path, place: str) -> None:
    assert "is a link that leaves" in complaint(hub_cache(tmp_path, tmp_path / place))


def test_loops_of_links_and_dangling_ones(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("config.json")
    assert complaint(folder).startswith("config.json: can't be read")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("nothing")
    assert complaint(folder).startswith("config.json: can't be read")


def test_what_is_not_a_file_is_not_opened(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    assert "config.json: is not a regular file" in complaint(folder)
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    assert "config.json: is not a regular file" in complaint(folder)


def test_folders_of_everything_are_no_checkpoint(folder: Path) -> None:
    for number in range(selection.MAX_FILES):
        os.link(folder / "config.json", folder / f"{number}.json")
    assert "more than 10000 entries" in complaint(folder)
