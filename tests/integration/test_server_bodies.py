"""Bodies of pages on their way in: when they are read, where they go, and that nothing of them stays."""

import asyncio
import base64
import gc
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from yarl import URL

from ocr_inference.errors import ApiError
from ocr_inference.manager.manager import Refused
from tests.support import inference, pages
from tests.support.descriptors import page_files
from tests.support.engines import Faults
from tests.support.inference import Server, turn
from tests.support.patience import PATIENCE

MAX_UPLOAD = 500_000
CONFIG = f"server: {{limits: {{maxUploadBytes: {MAX_UPLOAD}}}}}"
LARGE = MAX_UPLOAD - 100


def large(shade: int = 0) -> bytes:
    """A picture of nearly the largest size: bytes after its end are no part of it."""
    picture = pages.blank(shade=shade)
    return picture + bytes(LARGE - len(picture))


def files() -> int:
    """How many pages this process has open: none waits for a collection of garbage."""
    return page_files(collect=False)


async def until(server: Server, metric: str, value: float) -> None:
    async with asyncio.timeout(PATIENCE):
        while await server.metric(metric) != value:
            pass


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[tuple[Server, Faults]]:
    """A server whose model doesn't wake before it is let, and whose budget is taken by three large pages."""
    faults = Faults(tmp_path)
    faults.set(load="hold")
    config = f"models: [{{name: m, engine: fake, options: {{faults_file: {faults.file}}}}}]\n{CONFIG}"
    async with inference.server(config, upload_memory_bytes=0) as server:
        yield server, faults
        faults.set()


# --- the budget -------------------------------------------------------------------------------------------------


async def test_a_page_that_does_not_fit_waits_until_others_are_answered(held: tuple[Server, Faults]) -> None:
    server, faults = held
    reading = [asyncio.create_task(server.read(large(shade))) for shade in range(3)]
    await until(server, 'ocr_model_waiting{model="m"}', 3)
    assert 3 * LARGE <= await server.metric("ocr_uploads_admitted_bytes") < 3 * LARGE + 3000
    reading += [asyncio.create_task(server.read(large(shade))) for shade in range(3, 5)]
    await until(server, "ocr_uploads_waiting", 2)
    assert (await server.json("GET", "/health"))[0] == 200
    faults.set()
    assert [status for status, _ in await asyncio.gather(*reading)] == [200] * 5
    assert await server.metric("ocr_uploads_admitted_bytes") == 0
    assert files() == 0


async def test_a_client_that_leaves_makes_room(held: tuple[Server, Faults]) -> None:
    server, _ = held
    reading = [asyncio.create_task(server.read(large(shade))) for shade in range(4)]
    await until(server, "ocr_uploads_waiting", 1)
    for each in reading:
        each.cancel()
    await until(server, "ocr_uploads_waiting", 0)
    await until(server, "ocr_uploads_admitted_bytes", 0)
    assert files() == 0


async def test_a_page_that_is_read_on_without_its_client_keeps_its_bytes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faults = Faults(tmp_path)
    faults.set(infer="hold")
    config = f"models: [{{name: m, engine: fake, options: {{faults_file: {faults.file}}}}}]\n{CONFIG}"
    async with inference.server(config) as server:
        reading = asyncio.create_task(server.read(large()))
        await server.until("m", in_flight=1)
        async with asyncio.timeout(PATIENCE):
            while "infer is held" not in caplog.text:
                await server.metric("ocr_uploads_waiting")
        reading.cancel()
        await asyncio.wait({reading})
        await until(server, 'ocr_http_requests_total{method="POST",route="/ocr",status="499"}', 1)
        assert await server.metric("ocr_uploads_admitted_bytes") == LARGE
        faults.set()
        await until(server, "ocr_uploads_admitted_bytes", 0)


async def test_a_body_without_a_length_gives_back_what_it_does_not_take(held: tuple[Server, Faults]) -> None:
    server, faults = held

    async def pieces() -> AsyncIterator[bytes]:
        yield json.dumps({"messages": [turn(pages.blank())]}).encode()

    chatting = asyncio.create_task(
        server.json(
            "POST", "/v1/chat/completions", data=pieces(), headers={"Content-Type": "application/json"}
        )
    )
    await until(server, 'ocr_model_waiting{model="m"}', 1)
    assert await server.metric("ocr_uploads_admitted_bytes") == len(pages.blank())
    faults.set()
    assert (await chatting)[0] == 200


async def test_a_queue_that_fills_while_a_page_waits_refuses_it_unread(tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    faults.set(load="hold")
    config = (
        f"models: [{{name: m, engine: fake, options: {{faults_file: {faults.file}}}}}]\nqueue: {{limit: 4}}\n"
    )
    async with inference.server(config + CONFIG, upload_memory_bytes=0) as server:
        reading = [asyncio.create_task(server.read(large(shade))) for shade in range(3)]
        await until(server, 'ocr_model_waiting{model="m"}', 3)
        late = asyncio.create_task(server.read(large(9)))
        await until(server, "ocr_uploads_waiting", 1)
        controls = asyncio.create_task(server.json("POST", "/gpu/load"))
        await until(server, 'ocr_model_waiting{model="m"}', 4)
        reading[0].cancel()
        await asyncio.wait({reading[0]})
        small = asyncio.create_task(server.json("POST", "/gpu/load"))
        status, body = await late
        faults.set()
        await asyncio.gather(*reading[1:], controls, small)
    assert (status, body["code"]) in [(429, "queue_full"), (200, None)]


# --- Expect -----------------------------------------------------------------------------------------------------


class Raw:
    """A connection on which a request is sent by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, server: Server) -> "Raw":
        url = URL(server.running.url)
        return cls(*await asyncio.open_connection(url.host, url.port))

    def send(self, head: str, body: bytes = b"") -> None:
        self.writer.write(head.replace("\n", "\r\n").encode() + body)

    async def answer(self) -> str:
        """The next head."""
        async with asyncio.timeout(PATIENCE):
            return (await self.reader.readuntil(b"\r\n\r\n")).decode()


FORM = (
    b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    + pages.blank()
    + b"\r\n--cut--\r\n"
)
HEAD = "POST /ocr HTTP/1.1\nHost: x\nContent-Type: multipart/form-data; boundary=cut\n"


async def test_a_client_is_told_to_send_when_its_body_is_wanted(held: tuple[Server, Faults]) -> None:
    server, faults = held
    reading = [asyncio.create_task(server.read(large(shade))) for shade in range(3)]
    await until(server, 'ocr_model_waiting{model="m"}', 3)
    raw = await Raw.to(server)
    raw.send(f"{HEAD}Expect: 100-continue\nContent-Length: {LARGE}\n\n")
    await until(server, "ocr_uploads_waiting", 1)
    answer = asyncio.create_task(raw.answer())
    assert (await server.json("GET", "/health"))[0] == 200
    assert not answer.done()
    faults.set()
    await asyncio.gather(*reading)
    assert (await answer).startswith("HTTP/1.1 100 Continue\r\n")
    raw.writer.close()


async def test_after_100_continue_the_answer_comes_as_ever(held: tuple[Server, Faults]) -> None:
    server, faults = held
    faults.set()
    raw = await Raw.to(server)
    for _ in range(2):
        raw.send(f"{HEAD}Expect: 100-Continue\nContent-Length: {len(FORM)}\n\n")
        assert (await raw.answer()).startswith("HTTP/1.1 100 ")
        raw.send("", FORM)
        head = await raw.answer()
        assert head.startswith("HTTP/1.1 200 ")
        length = next(int(line[15:]) for line in head.splitlines() if line.startswith("Content-Length:"))
        assert json.loads(await raw.reader.readexactly(length))["success"]
    raw.writer.close()


@pytest.mark.parametrize(("path", "length", "status"), [("/ocr", 10**10, 413), ("/gpu/release", 10**7, 413)])
async def test_what_is_refused_by_its_head_is_not_sent(path: str, length: int, status: int) -> None:
    async with inference.server(inference.FAKE + CONFIG) as server:
        raw = await Raw.to(server)
        kind = "multipart/form-data; boundary=cut"
        raw.send(
            f"POST {path} HTTP/1.1\nHost: x\nContent-Type: {kind}\nContent-Length: {length}\nExpect: 100-continue\n\n"
        )
        head = await raw.answer()
        assert head.startswith(f"HTTP/1.1 {status} ")
        assert "connection: close" in head.lower()
        raw.writer.close()


@pytest.mark.parametrize(("method", "path"), [("POST", "/ocr"), ("GET", "/health")])
async def test_other_expectations_are_refused_in_our_shape(method: str, path: str) -> None:
    async with inference.server() as server:
        status, body = await server.json(method, path, headers={"Expect": "miracles"})
        assert (status, body["code"]) == (417, "expectation_failed")


# --- chat -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with inference.server(inference.FAKE + CONFIG) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path", "length"),
    [
        ("POST", "/gpu/release", "Transfer-Encoding: chunked\r\n\r\n5\r\n"),
        ("POST", "/v1/chat/completions", "Content-Length: 9\r\n\r\n"),
        ("PUT", "/v1/settings", "Content-Length: 9\r\n\r\n"),
        ("POST", "/ocr", "Content-Length: 9\r\n\r\n"),
    ],
)
async def test_a_body_that_ends_with_its_first_bytes_is_no_fault_of_ours(
    server: Server, caplog: pytest.LogCaptureFixture, method: str, path: str, length: str
) -> None:
    kind = "multipart/form-data; boundary=cut" if path == "/ocr" else "application/json"
    url = URL(server.running.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n{length}{{".encode())
    writer.write_eof()
    async with asyncio.timeout(PATIENCE):
        await reader.read()
    writer.close()
    assert (await server.json("GET", "/health"))[0] == 200
    (done,) = [each for each in caplog.messages if f" path={path} " in each]
    assert " status=4" in done, done
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def test_a_long_picture_is_read_as_a_short_one(server: Server) -> None:
    _, short = await server.chat({"messages": [turn(pages.blank(shade=7))]})
    body = {"messages": [turn(large(7), "Read it.")]}
    for text in (json.dumps(body), json.dumps(body).replace("/", "\\/")):
        status, long = await server.json(
            "POST", "/v1/chat/completions", data=text.encode(), headers={"Content-Type": "application/json"}
        )
        assert status == 200, long
        content = [answer["choices"][0]["message"]["content"] for answer in (long, short)]
        assert content[0].split()[-3:] == content[1].split()[-3:]
    assert files() == 0


@pytest.mark.parametrize("head", ["data:image/png;base64,", ""])
async def test_a_long_picture_in_other_base64_is_read_as_a_form_has_it(server: Server, head: str) -> None:
    _, form = await server.read(large(7), prompt_type="ocr")
    for data in (base64.encodebytes(large(7)), base64.urlsafe_b64encode(large(7)).rstrip(b"=")):
        body = {"prompt_type": "ocr", "image_base64": head + data.decode(), "save_to_file": False}
        status, answer = await server.json("POST", "/ocr-base64", json=body)
        assert (status, answer.get("text")) == (200, form["text"]), answer
    assert files() == 0


async def test_of_a_conversation_the_last_picture_is_read(server: Server) -> None:
    sent = [pages.blank(shade=shade) + bytes(100_000) for shade in (1, 2, 3)]
    _, alone = await server.chat({"messages": [turn(sent[2])]})
    _, answer = await server.chat({"messages": [turn(each) for each in sent]})
    assert answer["choices"][0]["message"]["content"] == alone["choices"][0]["message"]["content"]
    assert files() == 0


async def test_a_long_url_that_is_no_picture_of_the_request_is_nothing(server: Server) -> None:
    broken = "data:image/png;base64," + "%" * 100_000
    body = {"messages": [turn(pages.blank())], "user": broken}
    status, answer = await server.chat(body)
    assert (status, answer["ocr"]["metadata"]["ignored_fields"]) == (200, ["user"])
    status, answer = await server.chat({"messages": [turn(pages.blank(), broken)]})
    assert (status, answer["error"]["param"]) == (422, "messages[0].content")
    status, answer = await server.chat({"messages": [turn(pages.blank())], "model": broken})
    assert (status, answer["error"]["param"]) == (422, "model")


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"A" * 100_000 + b"%", 422, "invalid_value"),
        (base64.b64encode(bytes(MAX_UPLOAD + 1)), 413, "upload_too_large"),
        (base64.b64encode(bytes(100_000)) + b"\x00", 400, "invalid_json"),
        (base64.b64encode(bytes(100_000)) + b"\xff", 400, "invalid_json"),
        (base64.b64encode(b"x" * 100_000), 415, "unsupported_media_type"),
    ],
)
async def test_long_pictures_that_are_refused(server: Server, data: bytes, status: int, code: str) -> None:
    body = b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,'
    headers = {"Content-Type": "application/json"}
    got, answer = await server.json(
        "POST", "/v1/chat/completions", data=body + data + b'"}]}]}', headers=headers
    )
    assert (got, answer["error"]["code"]) == (status, code), answer
    assert files() == 0


async def test_parameters_of_the_query_are_named(server: Server) -> None:
    async with server.http.post(
        "/v1/chat/completions?api-version=1&model=x", json={"messages": [turn(pages.blank())]}
    ) as response:
        answer = await response.json()
    assert answer["ocr"]["metadata"]["ignored_fields"] == ["query.api-version", "query.model"]


# --- nothing stays ----------------------------------------------------------------------------------------------


async def refused(server: Server, faults: Faults) -> dict[int, str]:
    """Refusals of large pages, one of each status; the code of each."""

    async def of(method: str, path: str, **request: Any) -> None:
        status, body = await server.json(method, path, **request)
        if status != 200:
            found[status] = inference.refusal(body)["code"]

    found: dict[int, str] = {}
    page, headers = large(), {"Content-Type": "application/json"}
    chat = {"messages": [turn(page)]}
    await of("POST", "/ocr", data=inference.form(page, model="nobody"))
    await of("POST", "/ocr", data=inference.form(page, field="other"))
    await of("POST", "/ocr", data=inference.form(page + bytes(200)))
    await of("POST", "/ocr", data=inference.form(b"no picture" * 40_000))
    await of("POST", "/ocr", data=inference.form(page, prompt_type="nothing"))
    await of("POST", "/ocr", data=inference.form(page, prompt="x" * 100_000))
    await of(
        "POST",
        "/ocr-base64",
        json={"image_base64": chat["messages"][0]["content"][0]["image_url"]["url"] + "%"},
    )
    await of("POST", "/v1/chat/completions", json={**chat, "n": 2})
    await of("POST", "/v1/chat/completions", json={"messages": [turn(page + bytes(200))]})
    large_url = json.dumps({"messages": [turn(bytes(MAX_UPLOAD * 2))]}).encode()
    await of("POST", "/v1/chat/completions", data=io.BytesIO(large_url), headers=headers)
    await of(
        "POST", "/v1/chat/completions", data=json.dumps(chat).replace("A=", "%=").encode(), headers=headers
    )
    await of("POST", "/v1/chat/completions", data=io.BytesIO(b" " * (5 << 20)), headers=headers)
    await of("POST", "/gpu/release", data=b" " * 100_000, headers=headers)
    await of("PUT", "/v1/settings", data=io.BytesIO(b" " * 2_000_000), headers=headers)
    await of("POST", "/v1/chat/completions", json={"messages": [turn(b"no picture" * 40_000)]})
    await of("POST", "/v1/chat/completions", json={**chat, "model": "nobody"})
    await of("POST", "/v1/chat/completions", data=json.dumps(chat).encode()[:-1], headers=headers)
    await of("POST", "/ocr", data=inference.form(page, model="broken"))
    await of("POST", "/gpu/load", json={"model": "broken"})
    for call in ("/ocr", "/v1/chat/completions"):
        for fault in ("fail", "oom"):
            faults.set(infer=fault)
            if fault == "fail":
                await of("POST", "/ocr", data=inference.form(pages.pdf(2), model="m"))
            if call == "/ocr":
                await of("POST", call, data=inference.form(page, model="m"))
            else:
                await of("POST", call, json={**chat, "model": "m"})
        faults.set()
    faults.set(infer="hold")
    await of("POST", "/ocr", data=inference.form(page, model="m"))
    faults.set()
    reading = asyncio.create_task(server.read(page, model="slow"))
    await server.until("slow", in_flight=1)
    await of("POST", "/gpu/offload", json={"model": "slow", "if_idle": True})
    reading.cancel()
    await asyncio.wait({reading})
    await server.until("slow", in_flight=0)
    await server.until("m", in_flight=0)
    return found


async def test_refusals_of_every_status_leave_nothing(tmp_path: Path) -> None:
    """Neither a file nor a circle of exception, traceback and frame, which would keep what the frame had."""
    faults = Faults(tmp_path)
    broken = tmp_path / "broken.json"
    broken.write_text('{"load": "fail"}')
    config = f"""
models:
  - {{name: m, engine: fake, options: {{faults_file: {faults.file}}}}}
  - {{name: broken, engine: fake, options: {{faults_file: {broken}}}}}
  - {{name: slow, engine: fake, options: {{infer_seconds: 0.3}}}}
queue: {{deadlineSeconds: 2}}
"""
    async with inference.server(config + CONFIG, upload_memory_bytes=0) as server:
        found = await refused(server, faults)
        assert {400, 404, 409, 413, 415, 422, 500, 503, 504} <= found.keys(), found
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await refused(server, faults)
            await until(server, "ocr_uploads_admitted_bytes", 0)
            gc.collect()
            frames = {
                f"{each.f_code.co_filename}:{each.f_code.co_name}"
                for each in gc.garbage
                if isinstance(each, FrameType)
                and re.search("ocr_inference/(api/|manager/lease)", each.f_code.co_filename)
            }
            left = [each for each in gc.garbage if isinstance(each, ApiError | Refused)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        assert (frames, left) == (set(), [])
        assert files() == 0


async def test_kept_files_go_with_their_server() -> None:
    async with inference.server(inference.FAKE) as server:
        assert (await server.json("POST", "/v1/files", data=inference.form(pages.blank())))[0] == 200
        assert files() == 1
    assert files() == 0


async def test_documents_of_jobs_go_with_their_server() -> None:
    async with inference.server(inference.FAKE) as server:
        form = inference.form(pages.blank(), model="quick")
        async with server.http.post("/v1/jobs", data=form) as response:
            assert response.status == 202, await response.text()
        await until(server, 'ocr_jobs_ended_total{state="done"}', 1)
        assert files() == 1, "it is kept for as long as its results"
    assert files() == 0
