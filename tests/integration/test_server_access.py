"""Who may do what, and how tokens rotate."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from ocr_inference.api import routes
from tests.support import inference, pages

CONTROLS = [(method, path) for method, path, _ in routes.CONTROLS]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_open_routes_only_look() -> None:
    assert {method for method, _, _ in routes.OPEN} == {"GET"}
    assert len(CONTROLS) >= 6


async def test_controls_need_the_admin_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    async with inference.server(admin_token_file=file) as server:
        for method, path in CONTROLS:
            status, body = await server.json(method, path)
            assert (status, inference.refusal(body)["code"]) == (401, "missing_token"), path
            status, body = await server.json(method, path, headers=bearer("s3cre"))
            assert (status, inference.refusal(body)["code"]) == (403, "wrong_token"), path
            status, _ = await server.json(method, path, headers=bearer("s3cret"), json={})
            assert status in {200, 415, 422}, path  # that of pages takes a form
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
        assert (await server.read(pages.blank(), headers=bearer("key-c")))[0] == 200
        assert (await server.read(pages.blank(), headers=bearer("key-a")))[0] == 403


@pytest.mark.parametrize("path", ["/ocr", "/gpu/timeout"])
async def test_a_right_token_is_right_from_the_first_request_on(tmp_path: Path, path: str) -> None:
    file = tmp_path / "tokens"
    settings: dict[str, Any] = {_SETTING[path]: file}
    async with inference.server(**settings) as server:
        for token in ("old", "new"):  # The second round is after a rotation, in the same size and place.
            file.write_text(token)
            answers = await asyncio.gather(*(_status(server, path, token) for _ in range(16)))
            assert answers == [200] * 16
        assert await _status(server, path, "old") == 403


_SETTING = {"/ocr": "api_keys_file", "/gpu/timeout": "admin_token_file"}


async def _status(server: inference.Server, path: str, token: str) -> int:
    if path == "/ocr":
        return (await server.read(pages.blank(), headers=bearer(token)))[0]
    return (await server.json("POST", path, headers=bearer(token), json={"timeout": 60}))[0]


@pytest.mark.parametrize("content", [None, b"", b"# only a comment\n", b"\xff\xfe", b"key\n" * 20_000])
@pytest.mark.parametrize("path", list(_SETTING))
async def test_a_file_without_tokens_is_named_at_the_start_and_refuses_all(
    tmp_path: Path, content: bytes | None, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens"
    if content is not None:
        file.write_bytes(content)
    settings: dict[str, Any] = {_SETTING[path]: file}
    async with inference.server(**settings) as server:
        variable = f"OCR_{_SETTING[path].upper()}"
        errors = [record for record in caplog.records if record.levelname == "ERROR"]
        assert [variable in each.getMessage() and str(file) in each.getMessage() for each in errors] == [True]
        assert await _status(server, path, "") == 401
        async with server.http.post(path, headers=bearer("key")) as response:
            body = await response.json()
            assert (response.status, body["code"]) == (503, "tokens_unavailable"), body
            assert int(response.headers["Retry-After"]) >= 1
            assert str(file) not in body["error"]
        assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
        file.write_text("key")
        assert await _status(server, path, "key") == 200


@pytest.mark.parametrize(
    "raw",
    [b"\xef\xbb\xbfkey-a\r\nkey-b", b"\r\n  key-a \r\n\tkey-b\r\n", b"\xef\xbb\xbf# both\nkey-a\nkey-b"],
)
async def test_tokens_are_taken_as_editors_leave_them(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "keys"
    file.write_bytes(raw)
    async with inference.server(api_keys_file=file) as server:
        for key in ("key-a", "key-b"):
            assert await _status(server, "/ocr", key) == 200
        assert await _status(server, "/ocr", "# both") == 403


async def test_a_token_that_cannot_be_sent_is_refused_by_its_line_and_the_others_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys"
    file.write_bytes("key-a\ns3cr\x00et\nkey-b\ns3crét\n".encode())
    async with inference.server(api_keys_file=file) as server:
        assert await _status(server, "/ocr", "key-b") == 200
        assert await _status(server, "/ocr", "s3cr") == 403
    [error] = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert "line 2 of the file of tokens has a character that can't be in a header" in error
    assert "OCR_API_KEYS_FILE" in error
    assert "s3cr" not in caplog.text


async def test_a_pipe_in_the_place_of_a_file_of_tokens_holds_up_nothing(tmp_path: Path) -> None:
    file = tmp_path / "token"
    os.mkfifo(file)
    async with inference.server(admin_token_file=file) as server:
        status, body = await server.json("POST", "/gpu/release", headers=bearer("s3cret"))
        assert (status, body["code"]) == (503, "tokens_unavailable")
        file.unlink()
        file.write_text("s3cret")
        assert (await server.json("POST", "/gpu/release", headers=bearer("s3cret")))[0] == 200


async def test_a_token_in_the_place_of_its_file_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with inference.server(admin_token_file=Path("s3cret" * 60)) as server:
        assert await _status(server, "/gpu/timeout", "s3cret" * 60) == 503
    assert "OCR_ADMIN_TOKEN_FILE" in caplog.text
    assert "s3cret" not in caplog.text
