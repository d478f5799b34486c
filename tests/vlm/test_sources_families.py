"""What is downloaded of a repository is all that a model needs: every family, from a stand-in hub to an answer."""

import json
from pathlib import Path

import pytest

from tests.support import hub as hubs
from tests.support import inference, pages

pytest.importorskip("transformers")

from tests.support import chatmodels, checkpoints


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_every_family_reads_a_page_from_what_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {
        "deepseek-ocr": checkpoints.make_deepseek_ocr(tmp_path / "deepseek-ocr", shard_bytes=4 << 20),
        "deepseek-ocr-2": checkpoints.make_deepseek_ocr2(tmp_path / "deepseek-ocr-2"),
        **{
            kind.replace("_", "-"): chatmodels.make(tmp_path / kind, kind)
            for kind in sorted(chatmodels.KINDS)
        },
    }
    assert len(made) <= 8
    with hubs.serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        commits = {name: hub.add(f"owner/{name}", files_of(folder)) for name, folder in made.items()}
        models = [
            {"name": name, "engine": "transformers", "source": {"huggingFace": {"repo": f"owner/{name}"}}}
            for name in made
        ]
        async with inference.server(json.dumps({"models": models}), cache_dir=tmp_path / "cache") as server:
            for name, commit in commits.items():
                status, body = await server.read(pages.blank(), model=name, max_tokens="2")
                assert status == 200, (name, body)
                model = await server.model(name)
                assert (model["state"], model["revision"]) == ("ready", commit)
        assert hub.asked(".py") == []
