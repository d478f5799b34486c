"""Chat completions over HTTP: whole and streamed, cut off and refused. The fake engine writes a word a step."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from PIL import Image

from tests.support import inference, pages
from tests.support.engines import Faults
from tests.support.inference import Server, turn
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = """
models:
  - {name: writer, engine: fake, options: {step_seconds: 0, max_batch: 4}}
  - {name: slow, engine: fake, options: {step_seconds: 0.2, max_batch: 4}}
  - {name: endless, engine: fake, options: {step_seconds: 0.2, repeat: 1000, max_batch: 4}}
  - {name: reader, engine: fake}
server: {limits: {maxUploadBytes: 200000}}
"""
WORDS = 7
"""In an answer of the fake engine: `fake ocr of page 0123456789ab by writer`."""
PICTURE_TOKENS = 100


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    async with inference.server(CONFIG) as running:
        yield running


def body(model: str = "writer", picture: bytes | None = None, **more: object) -> dict[str, Any]:
    page = pages.blank() if picture is None else picture
    return {"model": model, "messages": [turn(page)], **more}


async def events(response: aiohttp.ClientResponse) -> list[Any]:
    """The data of a stream's events, to its end; the last one may be the text `[DONE]`."""
    assert response.status == 200, await response.text()
    assert response.content_type == "text/event-stream"
    lines = (await response.text()).split("\n\n")
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [text if text == "[DONE]" else json.loads(text) for text in data]


async def stream(server: Server, asked: dict[str, Any]) -> list[Any]:
    async with server.http.post("/v1/chat/completions", json={**asked, "stream": True}) as response:
        return await events(response)


def content(chunks: list[Any]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks[:-1] for choice in chunk.get("choices", ())
    )


async def test_a_picture_of_several_pages_says_how_many_there_are(server: Server) -> None:
    status, answer = await server.chat(body(picture=pages.tiff(3)))
    assert (status, answer["ocr"]["page_count"]) == (200, 3)
    assert "page_count" not in (await server.chat(body()))[1]["ocr"]


@pytest.mark.parametrize("document", [pages.pdf(1), pages.encoded(Image.new("RGB", (9, 9)), "AVIF")])
async def test_a_document_is_refused_with_the_calls_that_read_it(server: Server, document: bytes) -> None:
    status, answer = await server.chat(body(picture=document))
    assert (status, answer["error"]["code"]) == (415, "unsupported_media_type")
    assert "/ocr" in answer["error"]["message"]


# --- whole ----------------------------------------------------------------------------------------------------


async def test_an_answer_has_openais_shape(server: Server) -> None:
    status, answer = await server.chat(body())
    assert status == 200
    assert list(answer) == ["id", "object", "created", "model", "choices", "usage", "ocr"]
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    (choice,) = answer["choices"]
    assert (choice["index"], choice["finish_reason"], choice["message"]["role"]) == (0, "stop", "assistant")
    assert choice["message"]["content"].startswith("fake document of page ")
    assert answer["usage"] == {
        "prompt_tokens": PICTURE_TOKENS,
        "completion_tokens": WORDS,
        "total_tokens": PICTURE_TOKENS + WORDS,
    }
    assert list(answer["ocr"]) == ["task", "metadata"]


async def test_with_our_object_the_parsed_answer_is_told_too(server: Server) -> None:
    _, answer = await server.chat(body("reader", ocr={"task": "ocr"}))
    text = answer["choices"][0]["message"]["content"]
    assert answer["ocr"]["text"] == text
    assert answer["ocr"]["boxes"] == [{"label": text, "box": [0, 0, 64, 48]}]
    assert answer["ocr"]["image_dims"] == {"w": 64, "h": 48}


async def test_the_bound_of_tokens_ends_an_answer_and_says_so(server: Server) -> None:
    _, answer = await server.chat(body(max_tokens=2))
    assert answer["choices"][0]["message"]["content"] == "fake document"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 2


async def test_ocr_tells_why_a_page_ended_and_what_it_took(server: Server) -> None:
    status, answer = await server.read(pages.blank(), model="writer", max_tokens="3", resolution="tiny")
    assert (status, answer["raw_text"]) == (200, "fake document of")
    metadata = answer["metadata"]
    assert metadata["finish_reason"] == "length"
    assert (metadata["prompt_tokens"], metadata["completion_tokens"]) == (PICTURE_TOKENS, 3)
    assert metadata["ignored_fields"] == ["resolution"]
    _, answer = await server.read(pages.blank(), model="reader", max_tokens="3", loop_guard="false")
    assert answer["metadata"]["finish_reason"] == "stop"
    assert answer["metadata"]["ignored_fields"] == ["max_tokens", "loop_guard"]
    assert "prompt_tokens" not in answer["metadata"]


async def test_an_engine_without_a_language_model_saw_and_wrote_no_tokens(server: Server) -> None:
    _, answer = await server.chat(body("reader"))
    assert answer["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


async def test_a_prompt_that_cannot_be_followed_is_named(server: Server) -> None:
    asked = body("reader", messages=[turn(pages.blank(), "Free OCR.")], temperature=0.7)
    status, answer = await server.chat(asked)
    assert (status, answer["ocr"]["task"]) == (200, "ocr")
    assert answer["ocr"]["metadata"]["ignored_fields"] == ["messages[0].content", "temperature"]


async def test_the_default_model_answers_where_none_is_named(server: Server) -> None:
    _, answer = await server.chat({"messages": [turn(pages.blank())]})
    assert answer["model"] == "writer"


# --- streamed -------------------------------------------------------------------------------------------------


async def test_a_stream_begins_with_the_role_and_ends_with_the_reason(server: Server) -> None:
    asked = body(stream_options={"include_usage": True})
    _, whole = await server.chat(asked)
    chunks = await stream(server, asked)
    first, *pieces, last, used, done = chunks
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert len(pieces) == WORDS
    assert all(list(piece["choices"][0]["delta"]) == ["content"] for piece in pieces)
    assert content(chunks) == whole["choices"][0]["message"]["content"]
    assert (last["choices"][0]["finish_reason"], last["choices"][0]["delta"]) == ("stop", {})
    assert last["ocr"]["task"] == "document"
    assert (used["choices"], used["usage"]) == ([], whole["usage"])
    assert done == "[DONE]"
    assert len({chunk["id"] for chunk in chunks[:-1]}) == 1
    assert {chunk["object"] for chunk in chunks[:-1]} == {"chat.completion.chunk"}


async def test_usage_comes_only_where_it_is_asked_for(server: Server) -> None:
    chunks = await stream(server, body())
    assert not any("usage" in chunk for chunk in chunks[:-1])


async def test_an_engine_that_does_not_write_in_pieces_streams_one(server: Server) -> None:
    _, piece, last, done = await stream(server, body("reader"))
    assert piece["choices"][0]["delta"]["content"].startswith("fake document of page ")
    assert (last["choices"][0]["finish_reason"], done) == ("stop", "[DONE]")


async def test_streams_of_one_model_are_written_together(server: Server) -> None:
    asked = [body("slow", pages.blank(shade=shade)) for shade in (10, 20, 30, 40)]
    alone = [await server.chat(each) for each in asked]
    together = await asyncio.gather(*(stream(server, each) for each in asked))
    for (_, whole), chunks in zip(alone, together, strict=True):
        assert content(chunks) == whole["choices"][0]["message"]["content"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_stop_text_ends_the_answer_and_the_writing(server: Server, streamed: bool) -> None:
    asked = body("slow", stop=["page ", "nothing"], stream_options={"include_usage": True})
    if streamed:
        chunks = await stream(server, asked)
        text, reason, used = content(chunks), chunks[-3]["choices"][0]["finish_reason"], chunks[-2]["usage"]
        own = chunks[-3]["ocr"]
    else:
        _, answer = await server.chat(asked)
        (choice,) = answer["choices"]
        text, reason, used = choice["message"]["content"], choice["finish_reason"], answer["usage"]
        own = answer["ocr"]
    assert (text, reason) == ("fake document of ", "stop")
    assert used == {
        "prompt_tokens": PICTURE_TOKENS,
        "completion_tokens": 4,
        "total_tokens": PICTURE_TOKENS + 4,
    }
    assert own["metadata"]["finish_reason"] == "stop"
    await server.until("slow", in_flight=0)


async def test_a_client_that_leaves_a_stream_ends_its_answer_and_no_other(server: Server) -> None:
    async with server.http.post(
        "/v1/chat/completions", json=body("endless", stream=True, max_tokens=20)
    ) as other:
        async with server.http.post("/v1/chat/completions", json=body("endless", stream=True)) as left:
            await left.content.readuntil(b"fake")
            left.close()
        await server.until("endless", in_flight=1)
        *_, last, done = await events(other)
    assert (last["choices"][0]["finish_reason"], done) == ("length", "[DONE]")
    await server.until("endless", in_flight=0)
    assert 20 < await server.metric('ocr_completion_tokens_total{model="endless"}') < 1000


async def test_a_client_that_leaves_ends_its_answer(server: Server) -> None:
    asking = asyncio.create_task(server.chat(body("endless")))
    await server.until("endless", in_flight=1)
    asking.cancel()
    await server.until("endless", in_flight=0)


async def test_tokens_and_the_first_piece_are_measured(server: Server) -> None:
    lines = {
        'ocr_prompt_tokens_total{model="writer"}': PICTURE_TOKENS,
        'ocr_completion_tokens_total{model="writer"}': WORDS,
        'ocr_first_piece_seconds_count{model="writer"}': 1,
        'ocr_pages_total{model="writer",task="document"}': 1,
    }
    before = {line: await server.metric(line) for line in lines}
    await stream(server, body())
    assert {line: await server.metric(line) - before[line] for line in lines} == lines


# --- what goes wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"model": "writr"}, 404, "model_not_found", "model"),
        ({"n": 2}, 422, "unsupported", "n"),
        ({"messages": []}, 422, "invalid_value", "messages"),
        ({"messages": [turn(text="Read it.")]}, 422, "missing_image", "messages"),
        (
            {"messages": [turn(b"just text")]},
            415,
            "unsupported_media_type",
            "messages[0].content[0].image_url.url",
        ),
        ({"messages": [turn(pages.bomb())]}, 413, "image_too_large", "messages[0].content[0].image_url.url"),
        (
            {"messages": [turn(bytes(200_001))]},
            413,
            "upload_too_large",
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": [turn(pages.truncated())]},
            422,
            "invalid_image",
            "messages[0].content[0].image_url.url",
        ),
        ({"model": "reader", "ocr": {"task": "describe"}}, 422, "unsupported_task", "ocr.task"),
        ({"ocr": {"task": "docment"}}, 422, "unknown_task", "ocr.task"),
    ],
)
async def test_bad_requests_are_named_with_their_own_status(
    server: Server, streamed: bool, change: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    got, answer = await server.chat({**body(), "stream": streamed, **change})
    assert (got, answer["error"]["code"], answer["error"]["param"]) == (status, code, param), answer
    assert set(answer["error"]) == {"message", "type", "code", "param"}
    assert (await server.chat(body()))[0] == 200


async def test_remote_pictures_are_never_fetched(server: Server) -> None:
    fetched = asyncio.Event()

    async def remote(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fetched.set()
        writer.close()

    async with await asyncio.start_server(remote, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/page.png"
        parts = [{"type": "image_url", "image_url": {"url": url}}]
        status, answer = await server.chat({"messages": [{"role": "user", "content": parts}]})
    assert (status, answer["error"]["code"]) == (422, "remote_url")
    assert "remote URLs are off" in answer["error"]["message"]
    assert not fetched.is_set()


@pytest.mark.parametrize(
    ("data", "headers", "status", "code"),
    [
        (b"{", {"Content-Type": "application/json"}, 400, "invalid_json"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (
            b"{}",
            {"Content-Type": "application/json", "Content-Encoding": "gzip"},
            415,
            "unsupported_encoding",
        ),
        (b" " * 1_400_000, {"Content-Type": "application/json"}, 413, "body_too_large"),
    ],
)
async def test_bodies_that_are_no_requests(
    server: Server, data: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    got, answer = await server.json("POST", "/v1/chat/completions", data=io.BytesIO(data), headers=headers)
    assert (got, answer["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("fault", "code"), [("fail", "engine_failed"), ("oom", "out_of_memory"), ("crash", "page_kills_worker")]
)
async def test_a_failure_after_the_first_piece_is_an_event(tmp_path: Path, fault: str, code: str) -> None:
    faults = tmp_path / "faults.json"
    options = json.dumps({"step_seconds": 0.05, "repeat": 100_000, "faults_file": str(faults)})
    async with (
        inference.server(f"models: [{{name: m, engine: fake, options: {options}}}]") as server,
        server.http.post("/v1/chat/completions", json=body("m", stream=True)) as response,
    ):
        await response.content.readuntil(b"fake")
        faults.write_text(json.dumps({"infer": fault}))
        chunks = await events(response)
        assert chunks[-1]["error"]["code"] == code
        assert set(chunks[-1]["error"]) == {"message", "type", "code", "param"}
        if fault == "oom":
            assert chunks[-1]["error"]["type"] == "insufficient_memory_error"
        faults.unlink()
        status, answer = await server.chat(body("m", max_tokens=WORDS))
        assert (status, answer["usage"]["completion_tokens"]) == (200, WORDS)


@pytest.mark.parametrize("fault", ["crash", "break"])
async def test_a_stream_goes_on_where_it_was_when_its_worker_died(tmp_path: Path, fault: str) -> None:
    faults = Faults(tmp_path)
    options = json.dumps({"step_seconds": 0.01, "repeat": 20, "faults_file": str(faults.file)})
    async with inference.server(f"models: [{{name: m, engine: fake, options: {options}}}]") as server:
        _, whole = await server.chat(body("m"))
        async with server.http.post("/v1/chat/completions", json=body("m", stream=True)) as response:
            begun = await response.content.readuntil(b"fake")
            faults.set(infer=fault)
            await server.until("m", state="unloaded")
            faults.set()
            rest = await response.text()
    *chunks, last = [line[6:] for line in (begun.decode() + rest).splitlines() if line.startswith("data: ")]
    assert last == "[DONE]"
    pieces = [each["delta"].get("content", "") for chunk in chunks for each in json.loads(chunk)["choices"]]
    assert "".join(pieces) == whole["choices"][0]["message"]["content"]


async def test_a_deadline_that_passes_in_a_stream_is_an_event() -> None:
    models = "models: [{name: m, engine: fake, options: {step_seconds: 0.05, repeat: 100000}}]"
    written, seconds = 0, 1.0
    # A busy machine may have the model awake no sooner than the deadline: then with a later one.
    while written <= 1 and seconds < PATIENCE:
        async with (
            inference.server(f"{models}\nqueue: {{deadlineSeconds: {seconds}}}") as server,
            server.http.post("/v1/chat/completions", json=body("m", stream=True)) as response,
        ):
            if response.status == 200:
                *pieces, last = await events(response)
                assert last["error"]["code"] == "deadline_exceeded"
                await server.until("m", in_flight=0)
                written = len(pieces)
        seconds *= 2
    assert written > 1


async def test_a_failure_before_the_first_piece_has_its_own_status(tmp_path: Path) -> None:
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps({"load": "fail"}))
    options = json.dumps({"step_seconds": 0, "faults_file": str(faults)})
    async with inference.server(f"models: [{{name: m, engine: fake, options: {options}}}]") as server:
        status, answer = await server.chat(body("m", stream=True))
        assert (status, answer["error"]["code"]) == (503, "load_failed")


async def test_a_full_queue_refuses_before_the_body_is_read(tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    faults.set(load="hold")
    config = (
        f"models: [{{name: m, engine: fake, options: {{faults_file: {faults.file}}}}}]\nqueue: {{limit: 1}}"
    )
    async with inference.server(config) as server:
        first = asyncio.create_task(server.chat(body("m")))
        await server.until("m", waiting=1)
        async with server.http.post("/v1/chat/completions", data=b"not even JSON") as response:
            assert response.status == 429
            assert int(response.headers["Retry-After"]) >= 1
        faults.set()
        assert (await first)[0] == 200


async def test_chat_needs_a_key_where_keys_are_configured(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("key-a\n")
    async with inference.server(api_keys_file=keys) as server:
        assert (await server.chat(body("quick")))[0] == 401
        assert (await server.chat(body("quick"), headers={"Authorization": "Bearer no"}))[0] == 403
        assert (await server.chat(body("quick"), headers={"Authorization": "Bearer key-a"}))[0] == 200
        assert (await server.json("GET", "/v1/models"))[0] == 200


@pytest.mark.slow
async def test_a_stream_says_something_while_its_model_wakes() -> None:
    config = "models: [{name: m, engine: fake, options: {step_seconds: 0, load_seconds: 11.0}}]"
    async with (
        inference.server(config) as server,
        server.http.post("/v1/chat/completions", json=body("m", stream=True)) as response,
    ):
        assert await response.content.readline() == b": heartbeat\n"
        assert (await server.model("m"))["state"] == "loading"
        assert (await events(response))[-1] == "[DONE]"
