"""OpenAI's own client against the real server process: what its users write works as it stands."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, OpenAI

from tests.support import inference, pages
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = 7
"""In an answer of the fake engine: `fake ocr of page 0123456789ab by writer`."""
PICTURE_TOKENS = 100
ENDLESS = {"step_seconds": 0.05, "repeat": 100_000}
"""Of an answer that takes an hour: whatever a test does meanwhile, it isn't over before."""


@dataclass(frozen=True)
class Serving:
    url: str
    client: AsyncOpenAI
    faults: Path
    """The faults file of model `faulty`."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def serving(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    folder = tmp_path_factory.mktemp("server")
    keys, faults, file = folder / "keys", folder / "faults.json", folder / "config.json"
    keys.write_text("sk-test\n")
    models: list[dict[str, Any]] = [
        {"name": "writer", "engine": "fake", "options": {"step_seconds": 0}},
        {"name": "endless", "engine": "fake", "options": ENDLESS},
        {"name": "faulty", "engine": "fake", "options": {**ENDLESS, "faults_file": str(faults)}},
        {"name": "pp-ocr", "engine": "rapidocr"},
    ]
    file.write_text(json.dumps({"models": models}))
    async with inference.process("serve", "--config", str(file), OCR_API_KEYS_FILE=str(keys)) as process:
        url = await inference.url_of(process)
        async with AsyncOpenAI(
            base_url=f"{url}/v1", api_key="sk-test", max_retries=0, timeout=PATIENCE
        ) as client:
            yield Serving(url, client, faults)


def asked(model: str, text: str | None = None, picture: bytes | None = None, **more: Any) -> dict[str, Any]:
    page = pages.blank() if picture is None else picture
    return {"model": model, "messages": [inference.turn(page, text)], **more}


async def test_models_are_listed_and_found(serving: Serving) -> None:
    models = [model async for model in serving.client.models.list()]
    assert [model.id for model in models] == ["writer", "endless", "faulty", "pp-ocr"]
    found = await serving.client.models.retrieve("pp-ocr")
    assert (found.object, found.owned_by) == ("model", "ocr-operator")
    scripts = ["Latn", "Hans", "Hant", "Jpan"]
    assert found.model_extra == {
        "engine": "rapidocr",
        "state": "unloaded",
        "location": "unloaded",
        "scripts": scripts,
        "tasks": ["document", "ocr", "free", "find"],
    }


async def test_a_completion(serving: Serving) -> None:
    answer = await serving.client.chat.completions.create(**asked("writer", temperature=0))
    (choice,) = answer.choices
    assert (answer.object, answer.model) == ("chat.completion", "writer")
    assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
    assert choice.message.content is not None
    assert len(choice.message.content.split()) == WORDS
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (PICTURE_TOKENS, WORDS)
    assert answer.usage.total_tokens == PICTURE_TOKENS + WORDS


async def test_a_stream_is_the_answer_in_pieces(serving: Serving) -> None:
    whole = await serving.client.chat.completions.create(**asked("writer"))
    chunks = [
        chunk
        async for chunk in await serving.client.chat.completions.create(
            **asked("writer"), stream=True, stream_options={"include_usage": True}
        )
    ]
    *written, used = chunks
    assert written[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content for chunk in written]
    assert sum(1 for piece in pieces if piece) == WORDS
    assert "".join(piece or "" for piece in pieces) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in written] == [None] * (len(written) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in written)
    assert (used.choices, used.usage) == ([], whole.usage)


async def test_the_clients_own_stream_helper_puts_it_together(serving: Serving) -> None:
    async with serving.client.chat.completions.stream(**asked("writer")) as stream:
        deltas = [event.delta async for event in stream if event.type == "content.delta" and event.delta]
        final = await stream.get_final_completion()
    assert len(deltas) == WORDS
    assert final.choices[0].message.content == "".join(deltas)
    assert final.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True])
async def test_base64_of_other_tools_is_read(serving: Serving, stream: bool) -> None:
    """The tool `base64` breaks lines, other programs leave out the padding or use the alphabet of URLs."""
    create, answers = serving.client.chat.completions.create, set()
    for data in (
        base64.b64encode,
        base64.encodebytes,
        lambda page: base64.urlsafe_b64encode(page).rstrip(b"="),
    ):
        url = "data:image/png;base64," + data(pages.blank()).decode()
        picture = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
        asked_for: Any = {"model": "writer", "messages": [{"role": "user", "content": [picture]}]}
        if stream:
            chunks = [chunk async for chunk in await create(**asked_for, stream=True)]
            answers.add("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
        else:
            answers.add((await create(**asked_for)).choices[0].message.content or "")
    assert [len(answer.split()) for answer in answers] == [WORDS]


async def test_real_text_is_read(serving: Serving) -> None:
    answer = await serving.client.chat.completions.create(
        **asked("pp-ocr", "Read this.", pages.invoice()), extra_body={"ocr": {"task": "document"}}
    )
    assert "Invoice number 4711" in (answer.choices[0].message.content or "")
    assert answer.model_extra is not None
    assert "| Coffee beans | 120.50 |" in answer.model_extra["ocr"]["text"]
    assert answer.model_extra["ocr"]["image_dims"] == {"w": 820, "h": 560}
    assert answer.usage is not None
    assert answer.usage.total_tokens == 0


async def test_the_clients_that_block_work_too(serving: Serving) -> None:
    def read() -> list[str]:
        with OpenAI(base_url=f"{serving.url}/v1", api_key="sk-test", max_retries=0) as client:
            stream = client.chat.completions.create(**asked("writer"), stream=True)
            return [chunk.choices[0].delta.content or "" for chunk in stream]

    assert len("".join(await asyncio.to_thread(read)).split()) == WORDS


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_are_the_clients_own(serving: Serving, stream: bool) -> None:
    create = serving.client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as missing:
        await create(**asked("writr"), stream=stream)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.UnprocessableEntityError) as several:
        await create(**asked("writer", n=3), stream=stream)
    assert (several.value.code, several.value.param) == ("unsupported", "n")
    remote = {"type": "image_url", "image_url": {"url": "https://example.org/page.png"}}
    with pytest.raises(openai.UnprocessableEntityError, match="remote URLs are off"):
        await create(model="writer", messages=[{"role": "user", "content": [remote]}], stream=stream)  # type: ignore[list-item,misc]
    other = serving.client.with_options(api_key="sk-other")
    with pytest.raises(openai.PermissionDeniedError):
        await other.chat.completions.create(**asked("writer"), stream=stream)


async def test_a_failure_in_the_middle_of_a_stream_is_raised(serving: Serving) -> None:
    stream = await serving.client.chat.completions.create(**asked("faulty"), stream=True)
    connected = []
    serving.faults.write_text(json.dumps({"infer": "fail"}))
    with pytest.raises(openai.APIError) as failed:
        connected.extend([chunk async for chunk in stream])
    serving.faults.unlink()
    assert failed.value.code == "engine_failed"
    answer = await serving.client.chat.completions.create(**asked("faulty", max_tokens=2))
    assert answer.choices[0].finish_reason == "length"


async def test_closing_a_stream_stops_the_writing(serving: Serving) -> None:
    stream = await serving.client.chat.completions.create(**asked("endless"), stream=True)
    await anext(aiter(stream))
    await stream.close()
    async with (
        asyncio.timeout(PATIENCE),
        aiohttp.ClientSession(serving.url) as http,
        http.get("/v1/state?watch=true") as watch,
    ):
        async for state in inference.events(watch):
            if state["models"][1]["in_flight"] == 0:
                break
        async with http.get("/metrics") as response:
            found = re.search(r'ocr_completion_tokens_total{model="endless"} (\S+)', await response.text())
    assert found is not None
    assert float(found[1]) > 0


async def test_memory_that_does_not_suffice_is_not_asked_for_again(serving: Serving) -> None:
    serving.faults.write_text(json.dumps({"infer": "oom"}))
    try:
        with pytest.raises(openai.InternalServerError, match="What may help") as error:
            await serving.client.with_options(max_retries=2).chat.completions.create(**asked("faulty"))
    finally:
        serving.faults.unlink()
    assert (error.value.status_code, error.value.code) == (507, "out_of_memory")
    assert error.value.response.headers["x-should-retry"] == "false"
    assert error.value.response.request.headers["x-stainless-retry-count"] == "0", "it tried again"
