"""A storm: models are offloaded, released, evicted, ended and reconfigured at random while clients read pages.

Every answer is compared with the one that the same model gave in the calm before. Afterwards the weights in host
memory must hash as before, and nothing may be booked, open or running that wasn't.
"""

import asyncio
import contextlib
import hashlib
import io
import logging
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from PIL import Image, ImageDraw

from bench import report
from ocr_inference.config.settings import Config, ModelConfig, effective
from ocr_inference.device.gpu import Device
from ocr_inference.manager.manager import Manager, Refused
from ocr_inference.protocol.engine import Delta, EngineError, PageOptions
from ocr_inference.protocol.page_file import Page, PageFile
from ocr_wire.live_settings import BatchingValues, IdleValues, LiveValues, ModelValues, QueueValues
from ocr_wire.states import State, Worker

TRANSITIONS: Final = 10_000
RAPIDOCR_TRANSITIONS: Final = 150
SEED: Final = 20_261_123
CLIENTS: Final = 12
DISTURBERS: Final = 3
PAGES: Final = 8
STANDBY_ENGINES: Final = ("fake",)
LEAVE_SECONDS: Final = 0.5
"""After which a sender who doesn't wait for the answer has left, at the latest."""
RETRY_SECONDS: Final = 0.1
"""For which a sender waits at most before it asks again where it was refused."""
TIMEOUTS: Final = (-1.0, -1.0, 0.0, 0.0, 0.002, 0.02)
"""Seconds that idle timers are set to, with their odds."""


@dataclass
class Tally:
    """What came of a storm."""

    transitions: int = 0
    """Life-cycle calls that were begun: load, offload, restore, unload, exit, kill."""
    calls: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    answered: int = 0
    """With the very text of the calm."""
    wrong: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Requests that were answered with an error, by its kind."""
    streamed: int = 0
    """Of the answered ones, those that came in pieces."""
    cancelled: int = 0
    """Requests whose sender left before the answer."""
    over_budget: int = 0
    """States in which more was resident than the device has."""
    drift_bytes: int = 0
    """Difference of host and device bytes before and after, over all models."""
    drift_descriptors: int = 0
    hashes_equal: bool = False
    kills: int = 0

    @property
    def lost(self) -> int:
        """Requests without any answer."""
        return self.requests - self.answered - self.wrong - self.failed.total() - self.cancelled


class Counting(logging.Handler):
    """Counts the calls that the manager logs as it begins them."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(logging.INFO)
        self._tally = tally

    def emit(self, record: logging.LogRecord) -> None:
        fields = record.__dict__
        if record.levelno == logging.INFO and "call" in fields:
            self._tally.transitions += 1
            self._tally.calls[fields["call"]] += 1
            self._tally.reasons[fields["reason"].partition(" for ")[0]] += 1


@contextlib.contextmanager
def counting(tally: Tally) -> Any:
    log, handler = logging.getLogger("ocr_inference.manager.manager"), Counting(tally)
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


def config(engine: str, models: int, device_bytes: int, **options: float) -> Config:
    """Models of equal size, with queues that hold every client and deadlines that nobody meets."""
    return Config(
        models=tuple(
            ModelConfig(name=f"m{n}", engine=engine, gpu_memory=device_bytes, options=dict(options))
            for n in range(models)
        ),
        queue=QueueValues(limit=10_000, patience_seconds=0.05, deadline_seconds=3600),
        idle=IdleValues(-1, -1, -1),
    )


def page(number: int) -> bytes:
    """A small page with words of its own."""
    picture = Image.new("RGB", (320, 240), "white")
    ImageDraw.Draw(picture).text((12, 12), f"Page number {number * 37 + 11}", fill="black", font_size=28)
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def copy(image: bytes, draw: random.Random) -> bytes:
    """The same picture, and yet a page of its own: a server refuses one that was in two workers that died, and a storm
    kills workers for nothing that a page does."""
    return image + draw.randbytes(8)


async def read(manager: Manager, model: str, image: bytes) -> str:
    with PageFile.of(image) as file:
        page = Page(file, PageOptions())
        async with manager.lease(model, page=page) as lease:
            return (await lease.infer(page)).text


async def read_pieces(manager: Manager, model: str, image: bytes) -> str:
    with PageFile.of(image) as file:
        page = Page(file, PageOptions())
        async with (
            manager.lease(model, page=page) as lease,
            contextlib.aclosing(lease.stream(page)) as pieces,
        ):
            return "".join([piece.text async for piece in pieces if isinstance(piece, Delta)])


def weather(draw: random.Random, models: Sequence[str]) -> LiveValues:
    """Settings by chance, of every kind that may change live."""
    return LiveValues(
        batching=BatchingValues(max_pages=draw.randint(1, 4), max_wait_milliseconds=draw.choice((0, 2))),
        models={
            model: ModelValues(
                idle=IdleValues(*(draw.choice(TIMEOUTS) for _ in range(3))),
                priority=draw.choice((0, 0, 1)),
                preload=draw.random() < 0.2,
            )
            for model in models
        },
    )


class Storm:
    def __init__(self, manager: Manager, config: Config, seed: int, *, kills: bool = False) -> None:
        self.tally = Tally()
        self._manager = manager
        self._config = config
        self._models = [model.name for model in config.models]
        self._random = random.Random(seed)
        self._kills = kills
        self._pages = [page(number) for number in range(PAGES)]
        self._expected: dict[tuple[str, int], str] = {}

    async def run(self, transitions: int) -> Tally:
        await self._calm()
        before = self._measure()
        over = asyncio.create_task(self._watch_budget())
        with counting(self.tally):
            storm = asyncio.Event()
            clients = [asyncio.create_task(self._client(storm)) for _ in range(CLIENTS)]
            try:
                await asyncio.gather(*(self._disturb(transitions) for _ in range(DISTURBERS)))
            finally:
                storm.set()
                await asyncio.gather(*clients)
        over.cancel()
        await self._settle()
        after = self._measure()
        self.tally.drift_bytes = abs(after.booked - before.booked) + abs(after.held - before.held)
        self.tally.drift_descriptors = after.descriptors - before.descriptors
        self.tally.hashes_equal = after.hashes == before.hashes
        return self.tally

    async def _calm(self) -> None:
        """Read every page with every model, then put all to sleep."""
        for model in self._models:
            for number, image in enumerate(self._pages):
                self._expected[model, number] = await read(self._manager, model, image)
        await self._settle()

    async def _settle(self) -> None:
        """Weights in host memory, no worker but standbys, nothing configured by chance."""
        self._apply(LiveValues())
        for model in self._models:
            await self._wake(model)
        self._apply(LiveValues(idle=IdleValues(0, 0, -1)))
        async with asyncio.timeout(120):
            async for snapshot in self._manager.changes():
                if all(m.state is State.OFFLOADED and m.worker is Worker.EXITED for m in snapshot.models):
                    break
            self._apply(LiveValues())
            # Standbys come after the workers have gone, and have descriptors of their own.
            async for snapshot in self._manager.changes():
                if all(m.standby == (m.engine in STANDBY_ENGINES) for m in snapshot.models):
                    break

    async def _wake(self, model: str) -> None:
        """A model whose workers were killed over and over is loaded again after a while only."""
        while True:
            try:
                await read(self._manager, model, copy(self._pages[0], self._random))
            except Refused as error:
                if error.refusal.retry_after_seconds is None:
                    raise
                await asyncio.sleep(error.refusal.retry_after_seconds)
            else:
                return

    def _apply(self, values: LiveValues) -> None:
        self._manager.apply(effective(self._config, values))

    async def _client(self, over: asyncio.Event) -> None:
        while not over.is_set():
            model, number = self._random.choice(self._models), self._random.randrange(PAGES)
            streams, leaves = self._random.random() < 0.3, self._random.random() < 0.1
            self.tally.requests += 1
            try:
                async with asyncio.timeout(self._random.random() * LEAVE_SECONDS if leaves else None):
                    asked = read_pieces if streams else read
                    text = await asked(self._manager, model, copy(self._pages[number], self._random))
            except TimeoutError:
                self.tally.cancelled += 1
            except EngineError as error:
                self.tally.failed[error.failure.kind] += 1
            except Refused as error:
                self.tally.failed[error.refusal.reason] += 1
                # As its Retry-After says: a load that fails is not tried again at once.
                await asyncio.sleep(min(error.refusal.retry_after_seconds or 0.0, RETRY_SECONDS))
            else:
                right = text == self._expected[model, number]
                self.tally.answered += right
                self.tally.streamed += right and streams
                self.tally.wrong += not right
            if self._random.random() < 0.3:
                await asyncio.sleep(self._random.random() * 0.02)

    async def _disturb(self, transitions: int) -> None:
        while self.tally.transitions < transitions:
            model = self._random.choice([*self._models, None])
            match self._random.randrange(8):
                case 0 | 1 | 2:
                    await self._manager.offload(model)
                case 3:
                    await self._manager.release(model)
                case 4 | 5 | 6:
                    self._apply(weather(self._random, self._models))
                case 7 if self._kills:
                    self._kill()
            await asyncio.sleep(self._random.random() * 0.01)

    def _kill(self) -> None:
        pids = list(self._manager.snapshot().worker_pids.values())
        if pids:
            self.tally.kills += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._random.choice(pids), signal.SIGKILL)

    async def _watch_budget(self) -> None:
        async for snapshot in self._manager.changes():
            total = snapshot.device.memory_total_bytes
            self.tally.over_budget += 0 < total < snapshot.memory_used_bytes

    def _measure(self) -> "_Measured":
        models = self._manager.snapshot().models
        tiers = host_tiers(self._models)
        return _Measured(
            hashes={name: digest for name, (_, digest) in tiers.items()},
            booked=sum(model.memory_bytes + model.host_bytes for model in models),
            held=sum(size for size, _ in tiers.values()),
            descriptors=len(os.listdir("/proc/self/fd")),
        )


@dataclass(frozen=True)
class _Measured:
    hashes: Mapping[str, str]
    booked: int
    """Bytes that the manager says are on the device and in host memory."""
    held: int
    """Bytes that the system says are in host memory."""
    descriptors: int


def host_tiers(models: Sequence[str], pid: int | None = None) -> dict[str, tuple[int, str]]:
    """Size and hash of each model's host tier, found where the system shows the open files of the server, this
    process where `pid` names no other."""
    found = {}
    folder = f"/proc/{pid or 'self'}/fd"
    for descriptor in os.listdir(folder):
        path = f"{folder}/{descriptor}"
        with contextlib.suppress(OSError):
            name = os.readlink(path).removeprefix("/memfd:ocr-weights-").removesuffix(" (deleted)")
            if name in models:
                with open(path, "rb") as tier:
                    data = tier.read()
                found[name] = (len(data), hashlib.sha256(data).hexdigest())
    return found


@contextlib.asynccontextmanager
async def managed(config: Config, device_bytes: int) -> AsyncIterator[Manager]:
    device = Device("simulated", "GPU-storm", "NVIDIA-L40S", device_bytes)
    manager = Manager(
        config,
        effective(config, LiveValues()),
        device,
        environ=os.environ,
        standby_engines=STANDBY_ENGINES,
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(manager.run())
        try:
            yield manager
        finally:
            await manager.close(grace_seconds=30)


async def storm(
    engine: str, transitions: int, seed: int = SEED, *, models: int = 4, kills: bool = False, **options: float
) -> Tally:
    """A storm over `models` models of which half fit on the device together."""
    size = 100_000_000
    told = config(engine, models, size, **options)
    async with managed(told, size * max(1, models // 2)) as manager:
        return await Storm(manager, told, seed, kills=kills).run(transitions)


def rows(what: str, tally: Tally) -> tuple[report.Row, ...]:
    return (
        report.plain(f"{what}: life-cycle calls", tally.transitions, "calls"),
        report.plain(f"{what}: pages read meanwhile", tally.answered, "pages"),
        report.plain(f"{what}: of them in pieces", tally.streamed, "pages"),
        report.plain(f"{what}: requests whose sender left", tally.cancelled, "pages"),
        report.at_most(f"{what}: wrong answers", tally.wrong, "pages", 0),
        report.at_most(f"{what}: requests without an answer", tally.lost, "pages", 0),
        report.at_most(f"{what}: requests answered with an error", tally.failed.total(), "pages", 0),
        report.at_most(f"{what}: drift of host and device bytes", tally.drift_bytes, "B", 0),
        report.at_most(f"{what}: states over the device's size", tally.over_budget, "states", 0),
        report.at_most(f"{what}: host tiers with another hash", float(not tally.hashes_equal), "", 0),
    )


async def measure() -> report.Result:
    with_fake = await storm("fake", TRANSITIONS, host_bytes=262_144.0, max_batch=4.0)
    with_rapidocr = await storm("rapidocr", RAPIDOCR_TRANSITIONS, models=2, threads=1)
    method = (
        f"{CLIENTS} clients read {PAGES} pages by chance without pause, a third of them in pieces, a tenth of them"
        f" leaving before the answer, while {DISTURBERS} others offload, release and reconfigure models by chance (seed"
        f" {SEED}): idle timeouts from 0 to 20 ms, priorities, preload, batch sizes. Workers exit and come back from"
        " their forkserver, those of the fake engine from a standby, too. 4 models of the fake engine (256 KiB of"
        " weights each, no delays), then 2 of rapidocr, on a simulated GPU that holds half of them. Each text is"
        " compared with the one that the same model gave before the storm; host tiers are hashed before and after, all"
        f" models asleep and without workers."
        f" Calls of the fake storm: {dict(with_fake.calls)}, because: {dict(with_fake.reasons)}."
    )
    return report.Result("storm", method, (*rows("fake", with_fake), *rows("rapidocr", with_rapidocr)))
