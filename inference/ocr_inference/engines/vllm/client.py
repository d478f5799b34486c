"""Requests to vLLM's server, by a thread with an event loop: pages that are read at once, each over a connection of its
own, whose end is what aborts it there.

Of a page whose answer is an error, or breaks off, the server is looked at: one whose engine has died says so to each
request, and ends a second later, so that it isn't this page that failed.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp

from ocr_inference.engines.vllm.answers import Unwell, Written, refused
from ocr_inference.engines.vllm.asking import Asked
from ocr_inference.protocol.engine import Delta, Event, Failure, FailureKind, PageResult, Shortage

_T = TypeVar("_T")
PREPARING: Final = 2
"""Threads that decode and encode pages while others are read."""
DYING_SECONDS: Final = 3.0
"""Time in which a server whose engine has died ends."""
_LOOK_SECONDS: Final = 0.2
_MAX_ANSWER: Final = 1 << 16
_MAX_LINE: Final = 1 << 20


class Died:
    """Report that the server has ended, or doesn't work any more."""


Report = Event | Died


class Client:
    """Client of one server. Its methods are called by one thread."""

    def __init__(
        self, socket_path: Path, has_ended: Callable[[], bool], outlives: Callable[[], Callable[[], None]]
    ) -> None:
        """Start the thread. `has_ended` says whether the server's process has. `outlives` is called with each page that
        is sent, and what it returns where that one has ended well, both by the thread."""
        self._socket = socket_path
        self._has_ended = has_ended
        self._outlives = outlives
        self._reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._pages: dict[int, Future[None]] = {}
        self._threads = ThreadPoolExecutor(PREPARING, "prepare")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="client", daemon=True)
        self._thread.start()

    def read(self, number: int, prepare: Callable[[], Asked], family: str) -> None:
        """Begin to read a page, whose request `prepare` makes; what becomes of it is reported."""
        self._pages[number] = self._run(self._read(number, prepare, family))

    def cancel(self, number: int) -> None:
        """End a page without a report; one that is under way may still come."""
        if (page := self._pages.pop(number, None)) is not None:
            page.cancel()

    @property
    def pages(self) -> int:
        """Number of pages whose end hasn't been reported."""
        return len(self._pages)

    def reports(self, seconds: float) -> list[Report]:
        """Return what has been reported, after waiting at most that long for the first."""
        found: list[Report] = []
        with contextlib.suppress(queue.Empty):
            found.append(self._reports.get(timeout=seconds))
            while True:
                found.append(self._reports.get_nowait())
        for report in found:
            if not isinstance(report, Died) and not isinstance(report[1], Delta):
                self._pages.pop(report[0], None)
        return found

    def is_ready(self) -> bool:
        """Whether the server answers that it is well."""
        return self._run(self._is_well()).result()

    def get(self, path: str) -> bytes:
        """Return the answer to a GET. Raises `OSError` where there is none."""
        return self._run(self._answer("GET", path)).result()

    def post(self, path: str, seconds: float) -> None:
        """Send a POST without a body, and wait for its end. Raises `OSError` where it fails or takes longer."""
        self._run(self._answer("POST", path, seconds)).result()

    def close(self) -> None:
        """End all requests, and the thread."""
        self._run(self._end()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._threads.shutdown(cancel_futures=True)

    # --- in the thread ----------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, _T]) -> "Future[_T]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _session(self, seconds: float | None = None) -> aiohttp.ClientSession:
        # The server closes idle connections when it likes, so none is used twice. Pages have the limit of their call.
        connector = aiohttp.UnixConnector(str(self._socket), force_close=True, limit=0)
        timeout = aiohttp.ClientTimeout(total=seconds)
        return aiohttp.ClientSession(
            "http://vllm", connector=connector, timeout=timeout, read_bufsize=_MAX_LINE
        )

    async def _is_well(self) -> bool:
        try:
            await self._answer("GET", "/health", DYING_SECONDS)
        except OSError:
            return False
        return True

    async def _answer(self, method: str, path: str, seconds: float = DYING_SECONDS) -> bytes:
        try:
            async with self._session(seconds) as session, session.request(method, path) as response:
                answer = await response.content.read(_MAX_ANSWER)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OSError(f"{method} {path}: {str(error) or type(error).__name__}") from error
        if response.status != 200:
            raise OSError(f"{method} {path}: status {response.status}")
        return answer

    async def _read(self, number: int, prepare: Callable[[], Asked], family: str) -> None:
        began = time.perf_counter()
        outcome: PageResult | Failure | None
        try:
            asked = await self._loop.run_in_executor(self._threads, prepare)
            outcome = await self._written(number, asked, family, began)
        except (Unwell, aiohttp.ClientError, OSError) as error:
            outcome = await self._failure(error)
        except MemoryError:
            outcome = _failed("there is no host memory for the page", FailureKind.OUT_OF_MEMORY, of_host=True)
        except Exception as error:  # noqa: BLE001 a page's failure is its own
            found = getattr(error, "failure", None)
            outcome = found if isinstance(found, Failure) else _failed(f"{type(error).__name__}: {error}")
        self._reports.put(Died() if outcome is None else (number, outcome))

    async def _written(self, number: int, asked: Asked, family: str, began: float) -> PageResult | Failure:
        written, ended_well = Written(), self._outlives()
        headers = {"Content-Type": "application/json"}
        async with (
            self._session() as session,
            session.post("/v1/chat/completions", data=asked.body, headers=headers) as response,
        ):
            if response.status != 200:
                return refused(response.status, await response.content.read(_MAX_ANSWER))
            async for line in response.content:
                if (delta := written.take(line)) is not None:
                    self._reports.put((number, delta))
        if written.finish_reason is None:
            raise Unwell("the answer broke off")
        ended_well()
        why = "memory ran out at a larger size"
        return PageResult(
            text="".join(written.text),
            width=asked.width,
            height=asked.height,
            finish_reason=written.finish_reason,
            prompt_tokens=written.prompt_tokens,
            completion_tokens=written.completion_tokens,
            seconds=time.perf_counter() - began,
            family=family,
            shortage=None if asked.read_at is None else Shortage(read_at=asked.read_at, why=why),
        )

    async def _failure(self, error: Exception) -> Failure | None:
        """Return the page's failure; None where it is the server that has failed."""
        end = self._loop.time() + DYING_SECONDS
        while self._loop.time() < end:
            if self._has_ended() or not await self._is_well():
                return None
            await asyncio.sleep(_LOOK_SECONDS)
        return _failed(f"vLLM failed to read the page: {str(error) or type(error).__name__}")


def _failed(message: str, kind: FailureKind = FailureKind.FAILED, *, of_host: bool = False) -> Failure:
    return Failure(kind=kind, message=message, of_host=of_host)
