"""Bad input: an answer that names it, and the next request works. All tests share one server, as clients do."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.support import inference, pages
from tests.support.inference import Server
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    limits = "server: {limits: {maxUploadBytes: 500000}}"
    async with inference.server(inference.FAKE + limits) as running:
        yield running


async def works(server: Server) -> None:
    status, body = await server.read(pages.blank())
    assert (status, body["success"]) == (200, True)


@pytest.mark.parametrize(
    ("picture", "fields", "status", "code", "says"),
    [
        (pages.truncated(), {}, 422, "invalid_image", "truncated"),
        (b"just some text", {}, 415, "unsupported_media_type", "known format"),
        (b"", {}, 422, "empty_upload", "0 bytes"),
        (b"%PDF-1.7 ...", {}, 422, "invalid_pdf", "damaged"),
        (pages.bomb(), {}, 413, "image_too_large", "30000 x 30000"),
        (b"\0" * 500_001, {}, 413, "upload_too_large", "500000 bytes"),
        (pages.blank(), {"prompt_type": "documnt"}, 422, "unknown_task", "'document'"),
        (pages.blank(), {"prompt_type": "describe"}, 422, "unsupported_task", "document, ocr, free, find"),
        (pages.blank(), {"prompt_type": "find"}, 422, "invalid_value", "find_term"),
        (pages.blank(), {"model": "quik"}, 404, "model_not_found", "quick, slow"),
        (pages.blank(), {"resolution": "huge"}, 422, "invalid_value", "tiny, small"),
        (pages.blank(), {"max_tokens": "-3"}, 422, "invalid_value", "max_tokens"),
        (pages.blank(), {"grounding": "maybe"}, 422, "invalid_value", "grounding"),
        (None, {}, 400, "missing_file", "'file'"),
    ],
)
async def test_bad_requests_say_what_is_wrong_and_harm_nothing(
    server: Server, picture: bytes | None, fields: dict[str, str], status: int, code: str, says: str
) -> None:
    got, body = await server.json("POST", "/ocr", data=inference.form(picture, **fields))
    assert (got, body["code"]) == (status, code), body
    assert says in body["error"]
    assert set(body) == {"success", "error", "detail", "type", "code", "param"}
    await works(server)


async def test_a_bomb_is_refused_without_waking_a_model(server: Server) -> None:
    status, _ = await server.read(pages.bomb(), model="slow")
    assert status == 413
    assert (await server.model("slow"))["state"] == "unloaded"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no boundary in sight",
        b"--cut",
        b"--cut\r\n",
        b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc',
        b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc\r\n--cut',
        b"--cut\r\n" + b"X: y\r\n" * 500 + b"\r\n\r\n--cut--\r\n",
        b"--cut\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n\r\nx\r\n--in--\r\n--cut--\r\n",
        b'--cut\r\nContent-Disposition: form-data; name="model"\r\n\r\n\xff\xfe\r\n--cut--\r\n',
        b'--cut\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 40 + b"--cut--\r\n",
        b"\x00" * 10_000,
    ],
)
async def test_malformed_multipart_is_a_400(server: Server, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    status, answer = await server.json("POST", "/ocr", data=body, headers=headers)
    assert status == 400, answer
    await works(server)


async def test_other_content_types_are_refused(server: Server) -> None:
    status, body = await server.json(
        "POST", "/ocr", data=pages.blank(), headers={"Content-Type": "image/png"}
    )
    assert (status, body["code"]) == (415, "unsupported_media_type")
    headers = {"Content-Type": "multipart/form-data; boundary=cut", "Content-Encoding": "gzip"}
    status, body = await server.json("POST", "/ocr", data=b"\x1f\x8b not gzip", headers=headers)
    assert (status, body["code"]) == (415, "unsupported_encoding")
    for bad in ("multipart/form-data", "multipart/form-data; boundary=" + "x" * 100):
        status, body = await server.json("POST", "/ocr", data=b"", headers={"Content-Type": bad})
        assert status == 400, body


async def test_an_oversized_upload_is_refused_before_it_is_sent(server: Server) -> None:
    """The head alone brings the answer: its content length is over the limit."""
    url = server.running.url.removeprefix("http://")
    host, port = url.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /ocr HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000000\r\n"
        b"Content-Type: multipart/form-data; boundary=cut\r\n\r\n--cut\r\n"
    )
    async with asyncio.timeout(PATIENCE):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()
    await writer.wait_closed()
    await works(server)


async def test_an_oversized_chunked_upload_is_cut_off(server: Server) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        while sent < 200_000_000:
            sent += 100_000
            yield b"x" * 100_000

    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    try:
        status, body = await server.json("POST", "/ocr", data=endless(), headers=headers)
        assert (status, body["code"]) == (413, "upload_too_large")
    except aiohttp.ClientConnectionError:
        pass  # The server hung up while we were still sending, which is as good.
    assert sent < 200_000_000
    await works(server)
