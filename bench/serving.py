"""Tokens a second of 16 pages at once through our server, beside `transformers serve` with continuous batching on.

It batches texts only: pages of a vision-language model it reads one after the other. So it is asked for texts as long
as our pages, too, of a model with the same decoder and no eyes.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from bench import batched, chatpages, modelserver, report, transformersserve
from bench.decoding import PAGES, SIZES

PAIRS: Final = int(os.environ.get("BENCH_SERVING_PAIRS", "5"))
TOKENS: Final = 32
SIDES: Final = ("our server", "transformers serve", "transformers serve, texts")
TARGET: Final = 2.0
WORDS: Final = 15
"""Of a text: each has six tokens, so it is as long as a page, which has 88 to 90."""
CACHE: Final = ("--cb-num-blocks", "128", "--cb-block-size", "32", "--cb-max-batch-tokens", "512")
"""Room for all of them at once. By itself it takes 12 GB of this machine's memory."""

Ask = Callable[[int], Awaitable[int]]
"""Asks for the page or text of this number; returns the tokens of its answer."""


async def _rate(ask: Ask, turn: int) -> float:
    began = time.perf_counter()
    written = await asyncio.gather(*(ask(turn * PAGES + number) for number in range(PAGES)))
    return sum(written) / (time.perf_counter() - began)


async def measure() -> report.Result:
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        await batched.make_model(folder)
        await _make_text(folder)
        async with AsyncExitStack() as stack:

            async def side(url: str, model: str, *, pages: bool = True, **more: object) -> Ask:
                http = await stack.enter_async_context(chatpages.client(url))

                async def ask(number: int) -> int:
                    said = _text(model, number)
                    if pages:
                        said = chatpages.asked(model, batched.MODEL_TYPE, number, TOKENS)
                    return await chatpages.tokens_of(http, said | more)

                return ask

            async def theirs(model: str, *arguments: str) -> str:
                there = folder / f"of-{model}"
                there.mkdir()
                url, _ = await stack.enter_async_context(
                    transformersserve.started(there, str(folder / model), "--continuous-batching", *arguments)
                )
                return url

            url, _ = await stack.enter_async_context(
                modelserver.served(folder / "model", "transformers", {}, pages=PAGES)
            )
            pages, texts = await theirs("model"), await theirs("text", *CACHE)
            asks = (
                await side(url, modelserver.NAME, ocr={"task": "free", "loop_guard": False}),
                await side(pages, str(folder / "model")),
                await side(texts, str(folder / "text"), pages=False),
            )
            for ask in asks:
                await asyncio.gather(
                    *(ask(-1 - number) for number in range(2))
                )  # what is made at the first page
            for turn in range(PAIRS):
                for number in (0, 1, 2) if turn % 2 else (2, 1, 0):
                    rates[SIDES[number]].append(await _rate(asks[number], turn))
        load.append(os.getloadavg()[0])
    ours, theirs_pages, theirs_texts = (rates[each] for each in SIDES)
    return report.Result(
        name="serving",
        method=f"{PAIRS} turns, by turns in the other order, of our server with engine transformers and two of"
        " `transformers serve --continuous-batching`, of the same transformers: one with the same model, of about 200"
        f" million parameters in the shape of {batched.MODEL_TYPE}, random weights, float32; the other with a text"
        f" model of the same decoder, its cache bounded by {' '.join(CACHE)}. {PAGES} pages of 224 x 224 pixels at"
        f" once, or texts of as many tokens, {TOKENS} tokens of answer each, others in each turn. All run meanwhile,"
        " one is asked. Of the first it says that its model doesn't support continuous batching: it reads page by page."
        f" Ratios are medians of the turns' ratios. {os.cpu_count()} cores. Load average before and after:"
        f" {load[0]:.1f}, {load[1]:.1f}.",
        rows=[
            report.at_least(f"pages: {SIDES[0]} ÷ {SIDES[1]}", _ratio(ours, theirs_pages), "×", TARGET),
            report.plain(f"{SIDES[0]}, pages ÷ {SIDES[2]}", _ratio(ours, theirs_texts), "×"),
            *(report.plain(f"{each}, tokens a second", report.median(rates[each]), "1/s") for each in SIDES),
        ],
        samples=dict(rates),
    )


def _ratio(over: list[float], under: list[float]) -> float:
    return report.median([one / other for one, other in zip(over, under, strict=True)])


def _text(model: str, number: int) -> dict[str, Any]:
    words = " ".join(f"w{1000 + (number * 37 + word) % 9000}" for word in range(WORDS))
    return {
        "model": model,
        "messages": [{"role": "user", "content": words}],
        "max_tokens": TOKENS,
        "temperature": 0.0,
    }


async def _make_text(folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.serving", str(folder))
    if await process.wait() != 0:
        raise RuntimeError("the text model couldn't be made")


def main(folder: Path) -> None:
    """Make the text model, with the tokenizer of the other one."""
    import torch  # noqa: PLC0415
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415

    (folder / "text").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / "model" / name, folder / "text")
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    (folder / "text/chat_template.jinja").write_text(template)
    ends = json.loads((folder / "model/config.json").read_text())["text_config"]
    sizes = dict[str, Any](SIZES["text_config"])  # type: ignore[call-overload]
    del sizes["rope_parameters"]
    config = AutoConfig.for_model(
        "qwen2",
        **sizes,
        max_position_embeddings=ends["max_position_embeddings"],
        eos_token_id=ends["eos_token_id"],
        pad_token_id=ends["pad_token_id"],
        bos_token_id=None,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.float().eval().save_pretrained(folder / "text")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
