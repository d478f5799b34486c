"""The load of all GPUs by three questions to a Prometheus server, for clusters whose exporters can't be reached."""

import asyncio
import logging
import random
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from ocr_operator.gpuload import prometheus_answers, smoothing
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.metrics import Metrics
from ocr_wire import tokens
from ocr_wire.garbage import forget_frames
from ocr_wire.redaction import Redactor

ASK_SECONDS: Final = 5.0
MAX_TOKEN_BYTES: Final = 16 * 1024

log = logging.getLogger(__name__)


class Prometheus:
    """Asks `url` every `interval` seconds; `readings` is what is known. The last good answer stays, with its times."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        matchers: str = "",
        token_file: str,
        nodes: Callable[[], Collection[str]],
        exporters: Callable[[], Collection[str]],
        interval: float,
        metrics: Metrics,
        rng: random.Random,
        on_first: Callable[[], None],
        on_round: Callable[[], None],
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._token_file = Path(token_file) if token_file else None
        self._queries = prometheus_answers.queries(matchers)
        self._nodes = nodes
        self._exporters = exporters
        self._interval = interval
        self._metrics = metrics
        self._rng = rng
        self._on_first = on_first
        self._on_round = on_round
        self._redact = Redactor(())
        """Knows the token that was sent last: an answer may repeat it."""
        self._known: tuple[GpuReading, ...] = ()
        self._problem = ""

    def readings(self) -> tuple[GpuReading, ...]:
        return self._known

    async def run(self) -> None:
        while True:
            await self.ask()
            await asyncio.sleep(self._interval * self._rng.uniform(0.9, 1.1))

    async def ask(self) -> None:
        """One round; what goes wrong is logged once and counted."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                load, times, targets = [
                    await self._query(query)
                    for query in (self._queries.load, self._queries.times, self._queries.targets)
                ]
            answer = await asyncio.to_thread(
                prometheus_answers.read,
                load,
                times,
                targets,
                frozenset(self._nodes()),
                frozenset(self._exporters()),
            )
        except Exception as error:
            if not isinstance(error, aiohttp.ClientError | OSError | ValueError):  # a timeout is an OSError
                log.exception("an answer of Prometheus was not understood")
            self._metrics.prometheus.labels("failed").inc()
            self._report(self._redact(str(error)) or type(error).__name__)
            forget_frames(error)
            return
        self._metrics.prometheus.labels("read").inc()
        found = answer.readings
        self._report(_problem(answer))
        first = not self._known and bool(found)
        self._known = smoothing.smooth(self._known, found)
        self._on_round()
        if first:
            self._on_first()

    async def _query(self, query: str) -> bytes:
        headers = {"Accept": "application/json"}
        if self._token_file is not None:
            token = await asyncio.to_thread(_token, self._token_file)
            headers["Authorization"] = f"Bearer {token}"
            self._redact = Redactor((token,))
        body = bytearray()
        async with self._session.post(
            f"{self._url}/api/v1/query", data={"query": query}, headers=headers, allow_redirects=False
        ) as response:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > prometheus_answers.MAX_BYTES:
                    raise ValueError(f"an answer of more than {prometheus_answers.MAX_BYTES} bytes")
            if response.status in (401, 403):
                raise ValueError(
                    f"it refuses the token ({response.status}); see OCR_OPERATOR_PROMETHEUS_TOKEN_FILE"
                )
            if response.status not in (200, 400, 422):  # Those two explain themselves in the usual form.
                raise ValueError(f"/api/v1/query answered {response.status}")
        return bytes(body)

    def _report(self, problem: str) -> None:
        """Log each problem once, and that it is over. A URL may carry a password: the log gets its host only."""
        if problem != self._problem:
            host = urlsplit(self._url).hostname
            if problem:
                log.warning("Prometheus doesn't help placement host=%s why=%s", host, problem)
            else:
                log.info("Prometheus answers host=%s", host)
        self._problem = problem


def _problem(answer: prometheus_answers.Answer) -> str:
    if answer.doubtful:
        named = ", ".join(sorted(answer.doubtful)[:3])
        return (
            f"several clusters have nodes of the same names ({named}); see OCR_OPERATOR_PROMETHEUS_MATCHERS"
        )
    return "" if answer.readings else "it knows no GPU of this cluster's nodes"


def _token(file: Path) -> str:
    """Read anew each time: projected tokens are rotated."""
    with file.open("rb") as opened:
        raw = opened.read(MAX_TOKEN_BYTES)
    try:
        token = tokens.parse(raw)
    except tokens.Unusable as error:
        raise ValueError(f"the token in {file} {error}") from None
    if not token:
        raise ValueError(f"{file} holds no token")
    return token
