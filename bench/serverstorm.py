"""A storm over a real server: language models on a simulated GPU that holds one of them at a time.

The server is a process of its own and so is each worker. Clients read pages, whole, streamed and with a change of
mind, while others offload, release, reconfigure and kill. Between the rounds all is settled and measured.
"""

import asyncio
import contextlib
import os
import random
import re
import signal
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from bench import questions, report, server, storm
from bench.questions import Answer, Ask, Failed
from bench.vlmserver import MODELS, make, offspring, opened, resident, served
from ocr_wire import live_settings, names
from ocr_wire.live_settings import IdleValues, LiveValues
from ocr_wire.states import State, Worker

TRANSITIONS: Final = 600
ROUNDS: Final = 6
CLIENTS: Final = 6
DISTURBERS: Final = 2
PAGES: Final = 2
TOKENS: Final = (4, 8)
ANSWER_SECONDS: Final = 180.0
"""A request without an answer after this is lost."""
SPREAD: Final = 1.05
"""What of the largest memory in the first third of the rounds the later ones may reach: pages of an allocator come
and go by some percent."""
CALL: Final = re.compile(rb" INFO ocr_inference\.manager\.manager .* call=(\w+) reason=(.+)$")
STARTED: Final = re.compile(rb" worker started model=(\S+) pid=(\d+)")
KILLED: Final = frozenset({"worker_died", "load_failed", "page_kills_worker"})
"""Errors that a killed worker explains."""


@dataclass
class Tally:
    """What came of a storm."""

    calls: Counter[str] = field(default_factory=Counter)
    """Life-cycle calls that were begun, as the server's log tells."""
    reasons: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """Lines of the server's log at level error."""
    requests: int = 0
    answered: int = 0
    streamed: int = 0
    """Of those answered."""
    cancelled: int = 0
    caused: Counter[str] = field(default_factory=Counter)
    """Requests answered with an error that follows from a kill of the storm, by its code."""
    failed: Counter[str] = field(default_factory=Counter)
    """Requests answered with any other error."""
    wrong: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    """By the state that the model was in."""
    settled: list["Settled"] = field(default_factory=list)
    """After the calm and after each round."""

    @property
    def transitions(self) -> int:
        return self.calls.total() + self.kills.total()

    @property
    def lost(self) -> int:
        """Requests without any answer."""
        ended = self.answered + self.cancelled + self.caused.total() + self.failed.total() + len(self.wrong)
        return self.requests - ended

    @property
    def hashes_equal(self) -> bool:
        return all(each.hashes == self.settled[0].hashes for each in self.settled)

    def grown(self, what: str) -> float:
        """The largest of what was measured after the first third of the rounds ÷ the largest before."""
        values: list[float] = [float(getattr(each, what)) for each in self.settled]
        first = max(1, len(values) // 3)
        return max(values[first:]) / max(values[:first])


@dataclass(frozen=True)
class Settled:
    """With every model asleep and no worker, but for what `worker_…` says: before its worker exits, after one page."""

    hashes: Mapping[str, str]
    host_bytes: int
    """What the server says its models hold, and what the system says of the tiers."""
    device_bytes: int
    server_bytes: int
    server_descriptors: int
    processes: int
    worker_bytes: int
    worker_descriptors: int


class Storm:
    def __init__(self, http: aiohttp.ClientSession, process: asyncio.subprocess.Process, seed: int) -> None:
        self.tally = Tally()
        self._http = http
        self._process = process
        self._random = random.Random(seed)
        self._pages = [storm.page(number) for number in range(PAGES)]
        self._expected: dict[Ask, Answer] = {}
        self._started: dict[str, int] = {}
        """The newest worker or standby of each model."""
        self._revision = 0
        self._clock = 0
        """Counts kills and requests, to tell which came first."""
        self._killed = dict.fromkeys(MODELS, 0)
        self._answered = dict.fromkeys(MODELS, 0)

    async def run(self, transitions: int, rounds: int) -> Tally:
        listening = asyncio.create_task(self._listen())
        try:
            await self._calm()
            for number in range(rounds):
                await self._round(transitions * (number + 1) // rounds)
                self.tally.settled.append(await self._settle())
        finally:
            listening.cancel()
        return self.tally

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            if match := CALL.search(line.rstrip()):
                self.tally.calls[match[1].decode()] += 1
                self.tally.reasons[match[2].decode().strip("'").partition(" for ")[0]] += 1
            elif match := STARTED.search(line):
                self._started[match[1].decode()] = int(match[2])
            elif b" ERROR " in line or line.startswith(b"Traceback"):
                self.tally.faults.append(line.decode().rstrip())

    async def _calm(self) -> None:
        """Every question once, alone, by models that nobody disturbs; and one settling to warm up."""
        for model in MODELS:
            for number in range(PAGES):
                for task in ("ocr", "free"):
                    for tokens in TOKENS:
                        for guard in (True, False):
                            ask = Ask(model, number, tokens, task, guard)
                            self._expected[ask] = await self._whole(ask)
        await self._settle()
        self.tally.settled.append(await self._settle())
        self.tally.calls.clear()
        self.tally.reasons.clear()

    async def _round(self, transitions: int) -> None:
        over = asyncio.Event()
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(self._client(over))
            try:
                await asyncio.gather(*(self._disturb(transitions) for _ in range(DISTURBERS)))
            finally:
                over.set()

    # --- clients ----------------------------------------------------------------------------------------------

    async def _client(self, over: asyncio.Event) -> None:
        asks = list(self._expected)
        while not over.is_set():
            ask, way = self._random.choice(asks), self._random.random()
            since = self._answered[ask.model]
            self._clock += 1
            begun = self._clock
            self.tally.requests += 1
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    if way < 0.5:
                        self._compare(ask, await self._whole(ask))
                    elif way < 0.8:
                        self._compare(ask, await self._streamed(ask))
                        self.tally.streamed += 1
                    else:
                        await self._give_up(ask, self._random.random())
            except Failed as error:
                code = str(error)
                caused = code in KILLED and self._killed[ask.model] > since
                (self.tally.caused if caused else self.tally.failed)[code] += 1
            except (aiohttp.ClientError, TimeoutError):
                pass  # lost, as the numbers say
            else:
                # An answer says that the model was well when its request began: what was read before a kill may be
                # answered after it.
                self._answered[ask.model] = max(self._answered[ask.model], begun)

    def _compare(self, ask: Ask, answer: Answer) -> None:
        expected = self._expected[ask]
        if answer == expected:
            self.tally.answered += 1
        else:
            self.tally.wrong.append(f"{ask}: {answer} instead of {expected}")

    async def _give_up(self, ask: Ask, seconds: float) -> None:
        """Read a stream and go away in the middle of it, or before; what came must be the answer's beginning."""
        pieces: list[str] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                self._compare(ask, await self._streamed(ask, pieces))
                return
        if self._expected[ask].text.startswith("".join(pieces)):
            self.tally.cancelled += 1
        else:
            self.tally.wrong.append(f"{ask}: {pieces} at the beginning of {self._expected[ask]}")

    async def _whole(self, ask: Ask) -> Answer:
        return await questions.whole(self._http, ask, storm.copy(self._pages[ask.page], self._random))

    async def _streamed(self, ask: Ask, pieces: list[str] | None = None) -> Answer:
        return await questions.streamed(
            self._http, ask, storm.copy(self._pages[ask.page], self._random), pieces
        )

    # --- disturbers -------------------------------------------------------------------------------------------

    async def _disturb(self, transitions: int) -> None:
        draw = self._random
        while self.tally.transitions < transitions:
            which = draw.choice([{}, *({"model": model} for model in MODELS)])
            chance = draw.random()
            if chance < 0.4:
                await self._control(names.PATH_OFFLOAD, which)
            elif chance < 0.5:
                await self._control(names.PATH_OFFLOAD, {"model": draw.choice(MODELS), "if_idle": True})
            elif chance < 0.52:
                await self._control(names.PATH_RELEASE, which)
            elif chance < 0.96:
                await self._declare(storm.weather(draw, MODELS))
            else:
                await self._kill()
            await asyncio.sleep(draw.random() * 0.3)

    async def _control(self, path: str, fields: Mapping[str, object]) -> None:
        async with self._http.post(path, json=fields) as answer:
            if answer.status not in (200, 409):
                self.tally.failed[f"{path} {answer.status}"] += 1
                self.tally.requests += 1

    async def _declare(self, values: LiveValues) -> None:
        self._revision += 1
        told = live_settings.envelope(1, self._revision, msgspec.to_builtins(values))
        async with self._http.put(names.PATH_SETTINGS, json=msgspec.to_builtins(told)) as answer:
            # Two disturbers may overtake one another.
            if answer.status not in (200, 409):
                raise RuntimeError(await answer.text())

    async def _kill(self) -> None:
        """End one of the workers that live."""
        async with self._http.get(names.PATH_STATE) as answer:
            states = {each["name"]: each["state"] for each in (await answer.json())["models"]}
        if workers := self._workers():
            model = self._random.choice(sorted(workers))
            with contextlib.suppress(ProcessLookupError):
                os.kill(workers[model], signal.SIGKILL)
                self.tally.kills[states[model]] += 1
                self._clock += 1
                self._killed[model] = self._clock

    # --- settling ---------------------------------------------------------------------------------------------

    async def _settle(self) -> Settled:
        """Wake each model, measure its worker, put all to sleep."""
        await self._declare(LiveValues(idle=IdleValues(0, 0, -1)))
        await self._asleep()
        await self._declare(LiveValues())
        sizes, descriptors = 0, 0
        for ask in (next(each for each in self._expected if each.model == model) for model in MODELS):
            self._check_calm(ask, await self._patiently(ask))
            if (worker := self._workers().get(ask.model)) is not None:
                sizes, descriptors = sizes + resident(worker), descriptors + opened(worker)
        await self._declare(LiveValues(idle=IdleValues(0, 0, -1)))
        state = await self._asleep(standbys=True)
        await self._declare(LiveValues())
        pid = self._process.pid
        tiers = storm.host_tiers(MODELS, pid)
        models = state["models"]
        return Settled(
            hashes={name: digest for name, (_, digest) in tiers.items()},
            host_bytes=sum(each["host_bytes"] for each in models) + sum(size for size, _ in tiers.values()),
            device_bytes=state["device"]["memory_used_bytes"],
            server_bytes=resident(pid),
            server_descriptors=await self._descriptors(),
            processes=len(offspring(pid)),
            worker_bytes=sizes,
            worker_descriptors=descriptors,
        )

    async def _descriptors(self) -> int:
        """Of the server, as soon as it has closed the connections that its clients have: within 5 s."""
        usual = self.tally.settled[0].server_descriptors if self.tally.settled else 0
        end = asyncio.get_running_loop().time() + 5
        while (now := opened(self._process.pid)) > usual and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
        return now

    def _check_calm(self, ask: Ask, answer: Answer) -> None:
        if answer != self._expected[ask]:
            self.tally.wrong.append(f"settling, {ask}: {answer} instead of {self._expected[ask]}")
            self.tally.requests += 1

    async def _patiently(self, ask: Ask) -> Answer:
        """A model whose workers were killed over and over is loaded again after a while only."""
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                try:
                    return await self._whole(ask)
                except Failed as error:
                    if str(error) not in KILLED:
                        raise
                    await asyncio.sleep(1)

    def _workers(self) -> dict[str, int]:
        """The process of each model that has one, by the log: the server tells its clients no process ids."""
        living = offspring(self._process.pid)
        return {model: pid for model, pid in self._started.items() if pid in living}

    async def _asleep(self, *, standbys: bool = False) -> dict[str, Any]:
        """The state in which no model has a worker or is on the device; with all the `standbys` that come then."""
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            contextlib.aclosing(server.states(self._http, "")) as states,
        ):
            async for state in states:
                if all(
                    each["state"] in (State.OFFLOADED, State.UNLOADED)
                    and each["worker"] != Worker.RUNNING
                    and (not standbys or each["standby"] == (each["state"] == State.OFFLOADED))
                    for each in state["models"]
                ):
                    return state
        raise RuntimeError("the server ended in the storm")


async def run(folder: Path, transitions: int, rounds: int, seed: int, device: str = "simulated") -> Tally:
    """`folder` has a checkpoint for each of MODELS."""
    async with served(folder, device) as (http, process):
        return await Storm(http, process, seed).run(transitions, rounds)


def rows(tally: Tally) -> tuple[report.Row, ...]:
    first, last = tally.settled[0], tally.settled[-1]
    return (
        report.plain("life-cycle calls and kills", tally.transitions, "calls"),
        *(report.plain(f"of them {call}", count, "calls") for call, count in sorted(tally.calls.items())),
        report.plain("of them kill -9 of a worker", tally.kills.total(), "kills"),
        report.plain("pages read meanwhile", tally.answered, "pages"),
        report.plain("of them streamed", tally.streamed, "pages"),
        report.plain("requests given up by their clients", tally.cancelled, "pages"),
        report.plain("requests that a kill ended with an error", tally.caused.total(), "pages"),
        report.at_most("wrong answers", len(tally.wrong), "pages", 0),
        report.at_most("requests without an answer", tally.lost, "pages", 0),
        report.at_most("requests answered with an error otherwise", tally.failed.total(), "pages", 0),
        report.at_most("errors in the server's log", len(tally.faults), "lines", 0),
        report.at_most(
            "settled states with another hash of a host tier", float(not tally.hashes_equal), "", 0
        ),
        report.at_most("drift of host bytes", abs(last.host_bytes - first.host_bytes), "B", 0),
        report.at_most("drift of device bytes", abs(last.device_bytes - first.device_bytes), "B", 0),
        report.at_most("drift of descriptors", last.server_descriptors - first.server_descriptors, "", 0),
        report.at_most("drift of processes", last.processes - first.processes, "", 0),
        report.at_most("memory of the server, later ÷ first third", tally.grown("server_bytes"), "×", SPREAD),
        report.at_most("memory of workers, later ÷ first third", tally.grown("worker_bytes"), "×", SPREAD),
    )


async def measure() -> report.Result:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        await asyncio.to_thread(make, folder)
        tally = await run(folder, TRANSITIONS, ROUNDS, storm.SEED)
    method = (
        f"a tiny DeepSeek-OCR and a tiny GLM-OCR of seeded random weights by engine transformers, in the real server"
        f" and its workers, on a simulated GPU that holds one of them. {CLIENTS} clients ask {PAGES} pages by chance:"
        f" whole, streamed, and streamed with the client going away within a second; {TOKENS} tokens at most, two"
        f" tasks, with and without loop guard. {DISTURBERS} others offload, release, reconfigure and kill workers"
        f" (seed {storm.SEED}). Answers are compared, token counts too, with those of the undisturbed models. An error"
        " counts as a kill's where its code says so and the model's worker was killed since its last answer. After"
        f" each of {ROUNDS} rounds all models sleep without workers, and tiers, memory and descriptors are measured;"
        " a worker's after its first page. Calls, kills and causes: "
        f"{dict(tally.calls)}, {dict(tally.kills)}, {dict(tally.reasons)}."
    )
    samples: dict[str, Sequence[float]] = {
        what: [float(getattr(each, what)) for each in tally.settled]
        for what in ("server_bytes", "server_descriptors", "worker_bytes", "worker_descriptors")
    }
    return report.Result("serverstorm", method, rows(tally), samples)
