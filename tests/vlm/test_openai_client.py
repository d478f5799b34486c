"""OpenAI's own client against a real vision-language model: the tokens that it is told of."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from openai import AsyncOpenAI, UnprocessableEntityError

from tests.support import inference, pages
from tests.support.patience import PATIENCE

pytest.importorskip("torch", reason="needs the extra `transformers`")

from tests.support import greedy


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[AsyncOpenAI]:
    """Of a server with models of random weights: `vlm`, a DeepSeek-OCR, and `chat`, which takes several pictures."""
    file, models = tmp_path / "config.json", []
    for name, kind in (("vlm", "deepseek_ocr"), ("chat", "lighton_ocr")):
        (tmp_path / name).mkdir()
        greedy.make(tmp_path / name, kind)
        models.append({"name": name, "engine": "transformers", "source": {"path": str(tmp_path / name)}})
    file.write_text(json.dumps({"models": models}))
    async with inference.process("serve", "--config", str(file)) as process:
        url = await inference.url_of(process)
        async with AsyncOpenAI(
            base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=PATIENCE
        ) as client:
            yield client


async def test_a_language_model_counts_what_it_saw_and_wrote(client: AsyncOpenAI) -> None:
    bounded: dict[str, Any] = {
        "model": "vlm",
        "messages": [inference.turn(pages.invoice(), "Free OCR.")],
        "max_tokens": 6,
        "extra_body": {"ocr": {"resolution": "tiny"}},
    }
    create = client.chat.completions.create
    whole = await create(**bounded)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 6
    larger = await create(**{**bounded, "extra_body": {"ocr": {"resolution": "small"}}})
    assert larger.usage is not None
    # 73 places for a page of 512 pixels, 111 for one of 640; the rest is the same prompt.
    assert larger.usage.prompt_tokens - whole.usage.prompt_tokens == 111 - 73
    assert whole.usage.prompt_tokens > 73
    chunks = [
        chunk async for chunk in await create(**bounded, stream=True, stream_options={"include_usage": True})
    ]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    several: dict[str, Any] = {
        "messages": [
            {
                "role": "user",
                "content": [
                    *inference.turn(pages.invoice())["content"],
                    *inference.turn(pages.blank(), "What changed?")["content"],
                ],
            }
        ],
        "max_tokens": 4,
    }
    alone = await create(
        **{**several, "model": "chat", "messages": [inference.turn(pages.blank(), "What changed?")]}
    )
    both = await create(**several, model="chat")
    assert alone.usage is not None
    assert both.usage is not None
    assert both.usage.prompt_tokens > 2 * alone.usage.prompt_tokens
    with pytest.raises(UnprocessableEntityError, match="one picture at a time") as refused:
        await create(**several, model="vlm")
    assert refused.value.param == "messages[0].content[0].image_url.url"
