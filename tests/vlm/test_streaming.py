"""Answers in pieces, from a real worker process to the reader: whole, in order, in company, and cut short."""

import asyncio
import json
import os
import signal
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.config.settings import Config
from ocr_inference.engines.transformers.text import Pieces
from ocr_inference.manager.manager import Manager, Refused
from ocr_inference.protocol.engine import Delta, EngineError, FailureKind, InferRequest, PageResult
from ocr_inference.scheduling.state import Reason
from ocr_wire.live_settings import BatchingValues
from ocr_wire.states import State
from tests.support import engines
from tests.support.engines import handed, make_config, make_model, read, running, seen, until, worker_pid
from tests.support.patience import PATIENCE

WORDS = 7
"""Of the fake engine's answer."""
ENDLESS = 100_000
"""Repeats: no test and no machine sees the end of it."""


def writer(**options: Any) -> Config:
    """A model that writes word by word."""
    return make_config(make_model(**{"step_seconds": 0.0, "max_batch": 4, **options}))


async def pieces(
    manager: Manager,
    request: InferRequest | None = None,
    deadline: float | None = None,
    into: list[Delta] | None = None,
) -> tuple[list[Delta], PageResult]:
    """Read a page in pieces, to the end."""
    deltas = [] if into is None else into
    with handed(request) as sent:
        async with (
            manager.lease("alpha", deadline, page=sent) as lease,
            aclosing(lease.stream(sent)) as answers,
        ):
            async for answer in answers:
                if isinstance(answer, PageResult):
                    return deltas, answer
                deltas.append(answer)
    raise AssertionError("the stream ended without a result")


# --- what a reader gets ---------------------------------------------------------------------------------------


async def test_pieces_come_one_by_one_and_add_up_to_the_unstreamed_text() -> None:
    async with running(writer()) as manager:
        whole = await read(manager)
        deltas, result = await pieces(manager)
        assert [delta.completion_tokens for delta in deltas] == list(range(1, WORDS + 1))
        assert "".join(delta.text for delta in deltas) == result.text == whole.text
        assert result.finish_reason == "stop"


async def test_an_engine_that_does_not_write_gives_one_piece() -> None:
    async with running() as manager:
        deltas, result = await pieces(manager)
        assert [delta.text for delta in deltas] == [result.text]


async def test_max_tokens_ends_the_answer_and_says_so() -> None:
    async with running(writer()) as manager:
        request = InferRequest(image=engines.picture(), max_tokens=2)
        deltas, result = await pieces(manager, request)
        assert len(deltas) == result.completion_tokens == 2
        assert result.finish_reason == "length"


async def test_pieces_are_given_out_while_the_page_is_still_written() -> None:
    async with running(writer(step_seconds=0.05, repeat=ENDLESS)) as manager:
        with handed() as sent:
            async with manager.lease("alpha") as lease, aclosing(lease.stream(sent)) as answers:
                first = await anext(answers)
                assert isinstance(first, Delta)
                assert seen(manager).in_flight == 1
        await until(manager, lambda model: model.in_flight == 0)


async def test_rows_are_written_together_and_end_on_their_own() -> None:
    async with running(writer(step_seconds=0.02, repeat=20)) as manager:
        await read(manager, request=InferRequest(image=engines.picture(), max_tokens=1))
        ends: list[int] = []

        async def ask(limit: int) -> None:
            _, result = await pieces(manager, InferRequest(image=engines.picture(), max_tokens=limit))
            assert result.completion_tokens == limit
            ends.append(limit)

        await asyncio.gather(*(ask(limit) for limit in (60, 40, 20, 5)))
        assert ends == [5, 20, 40, 60], "one after the other, they would end as they were asked"


async def test_a_slot_goes_to_the_next_page_at_once() -> None:
    config = writer(step_seconds=0.02, repeat=ENDLESS, max_batch=2)
    async with running(config) as manager:
        long = asyncio.create_task(pieces(manager))
        await until(manager, lambda model: model.in_flight == 1)
        for _ in range(3):
            _, result = await pieces(manager, InferRequest(image=engines.picture(), max_tokens=3))
            assert result.completion_tokens == 3
        assert not long.done()
        long.cancel()
        await until(manager, lambda model: model.in_flight == 0)


async def test_pages_beyond_the_batch_setting_wait() -> None:
    config = writer(step_seconds=0.02)
    async with running(config) as manager:
        manager.apply(engines.live(config, batching=BatchingValues(max_pages=1)))
        await asyncio.gather(*(read(manager) for _ in range(3)))
        most = 0

        async def watch() -> None:
            nonlocal most
            async for snapshot in manager.changes():
                most = max(most, snapshot.queue.in_flight)

        watching = asyncio.create_task(watch())
        await asyncio.gather(*(read(manager) for _ in range(3)))
        watching.cancel()
        assert most == 1


# --- leaving early --------------------------------------------------------------------------------------------


async def test_who_leaves_early_stops_the_writing_and_disturbs_nobody() -> None:
    async with running(writer(step_seconds=0.02, repeat=ENDLESS)) as manager:
        other = asyncio.create_task(
            pieces(manager, InferRequest(image=engines.picture(color="black"), max_tokens=50))
        )
        with handed() as sent:
            async with manager.lease("alpha") as lease, aclosing(lease.stream(sent)) as answers:
                async for _ in answers:
                    break
        deltas, result = await other
        assert "".join(delta.text for delta in deltas) == result.text
        await until(manager, lambda model: model.in_flight == 0)


async def test_a_stream_that_is_merely_dropped_ends_with_its_lease() -> None:
    async with running(writer(step_seconds=0.02, repeat=ENDLESS)) as manager:
        with handed() as sent:
            async with manager.lease("alpha") as lease:
                answers = lease.stream(sent)
                await anext(answers)
        await until(manager, lambda model: model.in_flight == 0)
        await answers.aclose()


async def test_a_cancelled_reader_frees_its_slot() -> None:
    async with running(writer(step_seconds=0.02, repeat=ENDLESS, max_batch=1)) as manager:
        reading = asyncio.create_task(pieces(manager))
        await until(manager, lambda model: model.in_flight == 1)
        reading.cancel()
        _, result = await pieces(manager, InferRequest(image=engines.picture(), max_tokens=2))
        assert result.completion_tokens == 2


async def test_offload_waits_for_streams() -> None:
    async with running(writer(step_seconds=0.02, repeat=3)) as manager:
        reading = asyncio.create_task(pieces(manager))
        await until(manager, lambda model: model.in_flight == 1)
        await manager.offload()
        assert reading.done()
        assert seen(manager).state is State.OFFLOADED
        assert len((await reading)[0]) == 3 * WORDS


# --- what goes wrong ------------------------------------------------------------------------------------------


async def test_a_deadline_holds_while_pieces_come() -> None:
    async with running(writer(step_seconds=0.02, repeat=ENDLESS)) as manager:
        await read(manager, request=InferRequest(image=engines.picture(), max_tokens=1))
        seen_pieces: list[Delta] = []
        seconds = 0.5
        # A busy machine may write nothing in so little time: then with more.
        while len(seen_pieces) <= 1 and seconds < PATIENCE:
            with pytest.raises(Refused) as error:
                await pieces(manager, deadline=manager.now() + seconds, into=seen_pieces)
            assert error.value.refusal.reason is Reason.DEADLINE
            seconds *= 2
        assert len(seen_pieces) > 1
        await until(manager, lambda model: model.in_flight == 0)


async def test_a_worker_that_dies_before_the_first_piece_is_replaced() -> None:
    async with running(writer(step_seconds=1.0)) as manager:
        reading = asyncio.create_task(pieces(manager, InferRequest(image=engines.picture(), max_tokens=1)))
        await until(manager, lambda model: model.in_flight == 1)
        os.kill(worker_pid(manager), signal.SIGKILL)
        deltas, _ = await reading
        assert len(deltas) == 1
        assert seen(manager).loads == 2


async def test_a_second_worker_that_dies_in_the_middle_ends_the_stream_with_an_error() -> None:
    async with running(writer(step_seconds=0.02, repeat=ENDLESS)) as manager:
        seen_pieces: list[Delta] = []
        reading = asyncio.create_task(pieces(manager, into=seen_pieces))
        for _ in range(2):
            before = len(seen_pieces)
            await engines.eventually(lambda before=before: len(seen_pieces) > before + 1)  # type: ignore[misc]
            os.kill(worker_pid(manager), signal.SIGKILL)
        with pytest.raises(EngineError, match="2 workers of model alpha died") as error:
            await reading
        assert error.value.failure.kind is FailureKind.PAGE_KILLS_WORKER
        assert (await read(manager, request=InferRequest(image=engines.picture(), max_tokens=3))).text


async def test_a_step_that_fails_fails_its_pages_and_the_next_ones_are_read(tmp_path: Path) -> None:
    faults = tmp_path / "faults.json"
    async with running(writer(faults_file=str(faults))) as manager:
        await read(manager)
        faults.write_text(json.dumps({"infer": "oom"}))
        with pytest.raises(EngineError) as error:
            await pieces(manager)
        assert error.value.failure.kind is FailureKind.OUT_OF_MEMORY
        faults.unlink()
        await pieces(manager)
        assert seen(manager).loads == 1


async def test_a_bad_page_fails_alone_among_streams() -> None:
    async with running(writer(step_seconds=0.02, repeat=5)) as manager:
        bad = pieces(manager, InferRequest(image=engines.picture()[:50]))
        outcomes = await asyncio.gather(pieces(manager), bad, pieces(manager), return_exceptions=True)
        assert [isinstance(outcome, EngineError) for outcome in outcomes] == [False, True, False]


# --- text in pieces -------------------------------------------------------------------------------------------


def bytewise(tokens: object) -> str:
    """A token is a byte, as in byte-level tokenizers at their finest."""
    assert isinstance(tokens, list)
    return bytes(tokens).decode("utf-8", errors="replace")


def written(tokens: list[int]) -> list[str]:
    made = Pieces(bytewise)
    return [*(made.add(token) for token in tokens), made.rest()]


@given(st.text(max_size=40))
def test_pieces_never_hold_half_a_character(text: str) -> None:
    parts = written(list(text.encode()))
    assert "".join(parts) == text
    assert sum(part.count("\ufffd") for part in parts) == text.count("\ufffd")


@given(st.lists(st.integers(0, 255), max_size=60))
def test_pieces_of_garbage_add_up_to_what_decoding_at_once_gives(tokens: list[int]) -> None:
    assert "".join(written(tokens)) == bytewise(tokens)


def test_garbage_without_end_is_shown_in_time() -> None:
    parts = written([0xFF] * 200)
    assert max(len(part) for part in parts) < 100
    assert "".join(parts).strip("\ufffd") == ""
