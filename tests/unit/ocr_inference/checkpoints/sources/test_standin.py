"""The stand-in hub is one: the hub's own client downloads from it and understands it."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RevisionNotFoundError

from ocr_inference.checkpoints import sources
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
