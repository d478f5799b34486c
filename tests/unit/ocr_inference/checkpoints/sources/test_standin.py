"""The stand-in hub is one: the hub's own client downloads from it and understands it. Its cache is ours."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    IncompleteSnapshotError,
    RevisionNotFoundError,
)

from ocr_inference.checkpoints import sources
from ocr_inference.protocol.engine import EngineError, ModelSpec
from tests.support import hub as hubs


@pytest.fixture
def hub() -> Iterator[hubs.Hub]:
    huggingface_hub.set_client_factory(lambda: httpx2.Client(follow_redirects=True))
    with hubs.serving() as hub:
        yield hub
    huggingface_hub.close_session()


@pytest.mark.parametrize("files", [hubs.checkpoint(), hubs.sharded()], ids=["single", "sharded"])
def test_its_own_client_downloads_what_we_can_use(
    hub: hubs.Hub, tmp_path: Path, files: dict[str, bytes]
) -> None:
    commit = hub.add("owner/name", files)
    snapshot = Path(
        huggingface_hub.snapshot_download("owner/name", endpoint=hub.url, cache_dir=tmp_path, token=False)
    )
    assert snapshot.name == commit
    assert {path.name: path.read_bytes() for path in snapshot.iterdir()} == files
    assert all(path.is_symlink() for path in snapshot.iterdir())
    assert sources.check(snapshot).weights


def fetched(hub: hubs.Hub, cache: Path, **environ: str) -> sources.Checkpoint:
    spec = ModelSpec(name="m", engine="transformers", repo="owner/name", revision="main")
    return sources.fetch(spec, cache, lambda _: None, {"HF_ENDPOINT": hub.url, **environ})


@pytest.mark.parametrize("files", [hubs.checkpoint(), hubs.sharded()], ids=["single", "sharded"])
@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_cache_that_its_client_has_filled_is_used(
    hub: hubs.Hub, tmp_path: Path, files: dict[str, bytes], offline: str
) -> None:
    commit = hub.add("owner/name", files)
    snapshot = huggingface_hub.snapshot_download(
        "owner/name", endpoint=hub.url, cache_dir=tmp_path, token=False
    )
    hub.seen.clear()
    checkpoint = fetched(hub, tmp_path / "unused", HF_HUB_CACHE=str(tmp_path), HF_HUB_OFFLINE=offline)
    assert (checkpoint.folder, checkpoint.revision) == (Path(snapshot), commit)
    assert hub.asked("/resolve/") == []
    assert not (tmp_path / "unused").exists()


def test_a_cache_that_its_client_has_begun_to_fill_is_completed(hub: hubs.Hub, tmp_path: Path) -> None:
    hub.add("owner/name", hubs.sharded())
    first = "model-00001-of-00002.safetensors"
    huggingface_hub.snapshot_download(
        "owner/name",
        endpoint=hub.url,
        cache_dir=tmp_path / "hub",
        token=False,
        allow_patterns=["*.json", first],
    )
    with pytest.raises(EngineError, match=r"model-00002-of-00002\.safetensors"):
        fetched(hub, tmp_path, HF_HUB_OFFLINE="1")
    hub.seen.clear()
    fetched(hub, tmp_path)
    assert [each.path for each in hub.asked("/cdn/")] == ["/cdn/model-00002-of-00002.safetensors"]


def test_its_own_client_uses_what_we_downloaded_and_knows_what_is_missing(
    hub: hubs.Hub, tmp_path: Path
) -> None:
    files = hubs.checkpoint() | {"README.md": b"text", "sub/more.json": b"{}"}
    hub.add("owner/name", files)
    folder = fetched(hub, tmp_path).folder
    hub.seen.clear()
    download = partial(
        huggingface_hub.snapshot_download,
        "owner/name",
        endpoint=hub.url,
        cache_dir=tmp_path / "hub",
        token=False,
    )
    with pytest.raises(IncompleteSnapshotError, match=r"README\.md"):
        download(local_files_only=True)
    assert download() == str(folder)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.*")} == set(files)
    assert hub.asked("/cdn/") == []
    found = huggingface_hub.scan_cache_dir(tmp_path / "hub")
    assert found.warnings == []
    assert [repo.repo_id for repo in found.repos] == ["owner/name"]


def test_its_own_client_understands_refusals(hub: hubs.Hub) -> None:
    api = huggingface_hub.HfApi(endpoint=hub.url, token=False)
    hub.add("owner/name", hubs.checkpoint())
    hub.add("owner/gated", hubs.checkpoint(), gated=True)
    with pytest.raises(RevisionNotFoundError):
        api.model_info("owner/name", revision="nothing")
    with pytest.raises(GatedRepoError):
        api.model_info("owner/gated", revision="main")
    with pytest.raises(HfHubHTTPError, match="401"):
        api.model_info("owner/nothing", revision="main")
