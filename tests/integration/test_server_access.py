"""Who may do what, and how tokens rotate."""

import asyncio
import os
from pathlib import Path

import pytest

from ocr_inference import app
from tests.support import inference, pages
from tests.support.patience import PATIENCE

CONTROLS = [(method, path) for method, path, _ in app.CONTROLS]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_open_routes_only_look() -> None:
    assert {method for method, _, _ in app.OPEN} == {"GET"}
    assert len(CONTROLS) >= 6


async def test_controls_need_the_admin_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    async with inference.server(admin_token_file=file) as server:
        for method, path in CONTROLS:
            status, body = await server.json(method, path)
            assert (status, body["error"]["code"]) == (401, "missing_token"), path
            status, body = await server.json(method, path, headers=bearer("s3cre"))
            assert (status, body["error"]["code"]) == (403, "wrong_token"), path
            status, _ = await server.json(method, path, headers=bearer("s3cret"), json={})
            assert status in {200, 422}, path
        for path in ("/health", "/gpu/status", "/v1/state", "/v1/models"):
            assert (await server.json("GET", path))[0] == 200
        assert (await server.read(pages.blank()))[0] == 200


async def test_reading_needs_a_key_and_keys_rotate(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# team a\nkey-a\n\n  key-b\n")
    async with inference.server(api_keys_file=file) as server:
        assert (await server.read(pages.blank()))[0] == 401
        assert (await server.read(pages.blank(), headers=bearer("key-c")))[0] == 403
        assert (await server.read(pages.blank(), headers=bearer("# team a")))[0] == 403
        for key in ("key-a", "key-b"):
            assert (await server.read(pages.blank(), headers=bearer(key)))[0] == 200
        replacement = tmp_path / "new"
        replacement.write_text("key-c")
        os.replace(replacement, file)
        async with asyncio.timeout(PATIENCE):
            while (await server.read(pages.blank(), headers=bearer("key-c")))[0] != 200:
                pass
        assert (await server.read(pages.blank(), headers=bearer("key-a")))[0] == 403


@pytest.mark.parametrize("content", [None, "", "# only a comment\n"])
async def test_a_configured_file_without_tokens_lets_nobody_in(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    async with inference.server(admin_token_file=file) as server:
        for token in ("", "x"):
            status, _ = await server.json("POST", "/gpu/offload", headers=bearer(token))
            assert status in {401, 403}
