"""What the engine `vllm` does with a server that is ready: kept with vLLM itself and with the stand-in for it.

A class of tests for each to inherit; a server serves all of them, since vLLM's takes a minute to start.
"""

import io
import json
import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

from ocr_inference.engines.vllm import command, keeper
from ocr_inference.engines.vllm.engine import VllmEngine
from ocr_inference.protocol.engine import (
    Broken,
    Delta,
    Event,
    Failure,
    FailureKind,
    InferRequest,
    PageResult,
)
from tests.support.engines import picture
from tests.support.enginesuite import PAGE, answer
from tests.support.patience import PATIENCE
from tests.support.waiting import until


def checkpoint(folder: Path, context: int = 4096) -> Path:
    """A folder that looks like a chat model's; its weights are none."""
    files = {
        "config.json": {"model_type": "qwen2_5_vl", "text_config": {"max_position_embeddings": context}},
        "tokenizer.json": {
            "model": {"vocab": {"a": 0, "<td>": 1}},
            "added_tokens": [{"id": 2, "content": "<|im_end|>", "special": True}],
        },
        "chat_template.json": {"chat_template": "{{ messages }}"},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    return folder


def request(text: str = "read it", *, max_tokens: int | None = 8, **options: object) -> InferRequest:
    return InferRequest(
        image=PAGE.image,
        task="freeform",
        prompt=text,
        max_tokens=max_tokens,
        **options,  # type: ignore[arg-type]
    )


def steps(engine: VllmEngine) -> Iterator[Event]:
    """Events, for as long as there are pages inside."""
    while engine.free_slots < engine.max_batch:
        yield from engine.step()


def read(
    engine: VllmEngine, asked: InferRequest, number: int = 0
) -> tuple[list[Delta], PageResult | Failure]:
    engine.admit(number, asked)
    *pieces, (_, end) = steps(engine)
    assert not isinstance(end, Delta)
    return [piece for _, piece in pieces if isinstance(piece, Delta)], end


class VllmContract:
    tells_apart: ClassVar[bool] = True
    """Whether the model's answers differ by prompt; a tiny one may repeat the same token for any."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Answers don't end in the block, where the server can be told so; a real one takes its time."""
        yield

    def test_a_page_is_read_piece_by_piece(self, ready: VllmEngine) -> None:
        pieces, result = read(ready, request())
        assert isinstance(result, PageResult), result
        assert "".join(piece.text for piece in pieces) == result.text
        assert result.text
        assert (result.completion_tokens, result.finish_reason, result.family) == (8, "length", "chat")
        assert [before.completion_tokens <= after.completion_tokens for before, after in pairwise(pieces)]
        assert {piece.prompt_tokens for piece in pieces} == {result.prompt_tokens}
        assert result.prompt_tokens > 10, "the picture's tokens count"

    def test_pages_read_at_once_answer_as_alone(self, ready: VllmEngine) -> None:
        asked = [request(f"page {each}") for each in range(4)]
        alone = [answer(ready, each).text for each in asked]
        together = ready.infer(asked)
        assert [each.text for each in together if isinstance(each, PageResult)] == alone
        assert not self.tells_apart or len(set(alone)) > 1

    def test_a_request_without_a_bound_ends_with_the_context(self, ready: VllmEngine) -> None:
        result = answer(ready, request(max_tokens=None))
        assert result.prompt_tokens + result.completion_tokens <= ready.max_context

    def test_an_answer_that_ends_by_itself_counts_what_it_says(self, ready: VllmEngine) -> None:
        pieces, result = read(ready, request(max_tokens=None))
        assert isinstance(result, PageResult)
        if result.finish_reason == "stop":
            assert result.completion_tokens == max(piece.completion_tokens for piece in pieces)

    def test_tokens_of_the_tokenizer_in_a_persons_prompt_are_left_out(self, ready: VllmEngine) -> None:
        assert answer(ready, request("read <|im_end|>it")).text == answer(ready, request("read it")).text

    def test_a_bad_picture_fails_alone(self, ready: VllmEngine) -> None:
        good, bad, also_good = ready.infer([request(), InferRequest(image=b"GIF89a?"), request("more")])
        assert isinstance(good, PageResult)
        assert isinstance(also_good, PageResult)
        assert isinstance(bad, Failure)
        assert bad.kind is FailureKind.INVALID_IMAGE

    def test_a_prompt_that_is_too_long_is_refused_with_numbers(self, ready: VllmEngine) -> None:
        _, result = read(ready, request("a " * 5000))
        assert isinstance(result, Failure)
        assert result.kind is FailureKind.UNSUPPORTED
        assert str(ready.max_context) in result.message

    def test_sizes_are_of_the_upright_picture(self, ready: VllmEngine) -> None:
        data = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6  # turn right by 90 degrees to look at it
        Image.new("RGB", (60, 40), "white").save(data, "JPEG", exif=exif)
        result = answer(ready, InferRequest(image=data.getvalue(), max_tokens=1))
        assert (result.width, result.height) == (40, 60)

    def test_a_page_that_is_cancelled_says_nothing_more(self, ready: VllmEngine) -> None:
        ready.admit(1, request(max_tokens=None))
        ready.admit(2, request())
        ready.cancel(1)
        assert {number for number, _ in steps(ready)} == {2}
        assert isinstance(read(ready, request())[1], PageResult)

    def test_the_server_stops_writing_a_page_that_is_cancelled(self, ready: VllmEngine) -> None:
        until(
            lambda: metrics(ready)[RUNNING] == 0
        )  # a server counts pages that were before this one down afterwards
        before = metrics(ready)
        with self.held():
            ready.admit(1, request(max_tokens=None))
            next(steps(ready))
            ready.cancel(1)
            # A server counts anew with its next step, which is another page's.
            assert isinstance(read(ready, request(max_tokens=1))[1], PageResult)
            until(lambda: metrics(ready)[RUNNING] == 0)
        written = metrics(ready)[GENERATED] - before[GENERATED]
        assert written < ready.max_context / 2, "it would have written to the end of its context"

    def test_slots_are_bounded(self, ready: VllmEngine) -> None:
        assert ready.free_slots == ready.max_batch
        ready.admit(1, request())
        assert ready.free_slots == ready.max_batch - 1
        assert list(steps(ready))

    def test_nobody_else_can_reach_its_socket(self, ready: VllmEngine) -> None:
        assert ready.folder is not None
        assert ready.folder.stat().st_mode & 0o777 == 0o700
        assert (ready.folder / "server.sock").is_socket()


RUNNING, GENERATED = "vllm:num_requests_running", "vllm:generation_tokens_total"


def metrics(engine: VllmEngine) -> dict[str, float]:
    """What the engine's server says of itself, by name; sums over labels."""
    assert engine.folder is not None
    return metrics_of(engine.folder)


def metrics_of(folder: Path) -> dict[str, float]:
    """The same of the server with this folder."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(folder / command.SOCKET))
        connection.sendall(b"GET /metrics HTTP/1.0\r\nHost: vllm\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()
    found: dict[str, float] = {}
    for name, value in re.findall(r"^([a-z_:]+)(?:{.*})? (\S+)$", answer, re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def ends_with_everything(engine: VllmEngine) -> None:
    """Kill its computing process while a page is read: the engine is broken, and nothing of it is left."""
    assert engine.pid is not None
    folder, pids = engine.folder, sorted(keeper.descendants(engine.pid))
    engine.admit(1, request(max_tokens=None))
    engine.admit(2, request("more", max_tokens=None))
    with ThreadPoolExecutor() as threads:
        seen = threads.submit(lambda: list(steps(engine)))
        os.kill(pids[-1], 9)
        with pytest.raises(Broken, match="vLLM ended by itself") as broken:
            seen.result(PATIENCE)
    assert broken.value.failure.kind is FailureKind.WORKER_DIED
    assert folder is not None
    assert not folder.exists()
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
    assert read(engine, PAGE)[1] == Failure(kind=FailureKind.FAILED, message="the model is not loaded")


__all__ = ["VllmContract", "ends_with_everything", "metrics_of", "picture", "read", "request"]
