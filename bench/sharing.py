"""What a second server of the same model on a node takes, with the weights in the node's memory once and without.

Two server processes with one cache between them, empty at first: as pods that mount the same folder of their node. The
second one loads when the first one is ready. Memory is looked at while both are ready, so that a page which both have
mapped is private to neither.
"""

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from bench import idle, report, wake
from bench.sleeper import Sleeper
from ocr_wire import names
from ocr_wire.states import DeviceKind

ROUNDS: Final = 5
CONFIG: Final = (
    "models: [{{name: deepseek-ocr, engine: transformers, source: {{path: {folder}}}, dtype: bfloat16}}]\n"
)
"""In the checkpoint's own dtype: its experts are fused all the same, and weights of it aren't packed, which would be
memory of each server's."""
IMAGES: Final = ".flat"


@dataclass
class Pair:
    """Samples of two servers, the second after the first."""

    loads: list[list[float]] = field(default_factory=lambda: [[], []])
    wakes: list[list[float]] = field(default_factory=lambda: [[], []])
    """From deep idle, in seconds."""
    weights: list[int] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    """Bytes that the second server has of the weights in memory of its own: files in memory, and private pages of the
    shared one."""
    trees: list[list[float]] = field(default_factory=lambda: [[], []])
    """Proportional set size of all processes of a server, in MiB, with its files in memory."""

    async def look(self, config: str, environ: dict[str, str]) -> None:
        with tempfile.TemporaryDirectory() as cache:
            shared = environ | {names.ENV_CACHE_DIR: cache}
            async with (
                idle.served(config, shared) as (one, first),
                idle.served(config, shared) as (two, second),
            ):
                servers = ((one, first), (two, second))
                for number, (sleeper, pid) in enumerate(servers):
                    await idle.settled(pid)
                    await sleeper.read()
                    self.loads[number].append(float((await _model(sleeper))["last_load_seconds"]))
                self.weights.append(int((await _model(one))["host_bytes"]))
                self.own.append(idle.host_tier_bytes(second) + private_bytes(idle.tree(second), cache))
                for number, (_, pid) in enumerate(servers):
                    self.trees[number].append(idle.pss_bytes(idle.tree(pid)) / idle.MIB)
                for number, (sleeper, _) in enumerate(servers):
                    await sleeper.sleep(deep=True)
                    await sleeper.read()
                    self.wakes[number].append(await sleeper.last_wake())


async def _model(sleeper: Sleeper) -> dict[str, float]:
    model: dict[str, float] = (await sleeper.state())["models"][0]
    return model


def private_bytes(pids: Iterable[int], folder: str) -> int:
    """Bytes of shared images that processes have mapped and no other one has, be they changed or only nobody else's."""
    total = 0
    for pid in pids:
        inside = False
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            words = line.split()
            if not words[0].endswith(":"):
                inside = folder in line and line.endswith(IMAGES)
            elif inside and words[0] in ("Private_Clean:", "Private_Dirty:"):
                total += int(words[1]) << 10
    return total


async def measure() -> report.Result:
    if find_spec("transformers") is None:
        raise report.NotHere("the extra `transformers` isn't installed")
    pairs = {"shared": Pair(), "not shared": Pair()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        await wake.checkpoint(folder / "checkpoint", "short")
        environ = dict(os.environ) | {names.ENV_DEVICE: DeviceKind.CPU}
        config = CONFIG.format(folder=folder / "checkpoint")
        for _ in range(ROUNDS):
            for word, pair in pairs.items():
                await pair.look(
                    config, environ | {names.ENV_SHARED_WEIGHTS: "on" if word == "shared" else "off"}
                )
    return report.Result(
        "sharing", _method(), _rows(**{k.replace(" ", "_"): v for k, v in pairs.items()}), _samples(pairs)
    )


def _rows(shared: Pair, not_shared: Pair) -> list[report.Row]:
    def ratio(over: list[float] | list[int], under: list[float] | list[int]) -> float:
        return report.median([a / b for a, b in zip(over, under, strict=True)])

    return [
        report.plain("weights of the model", shared.weights[0] / idle.MIB, "MiB"),
        report.at_most(
            "second server: its own memory for weights ÷ the weights",
            ratio(shared.own, shared.weights),
            "×",
            0.05,
        ),
        report.plain("the same, not shared", ratio(not_shared.own, not_shared.weights), "×"),
        report.at_most(
            "second server: first load ÷ the first server's",
            ratio(shared.loads[1], shared.loads[0]),
            "×",
            0.2,
        ),
        report.plain("the same, not shared", ratio(not_shared.loads[1], not_shared.loads[0]), "×"),
        report.plain(
            "second server: first load ÷ the same, not shared",
            ratio(shared.loads[1], not_shared.loads[1]),
            "×",
        ),
        report.plain(
            "first server: first load ÷ the same, not shared",
            ratio(shared.loads[0], not_shared.loads[0]),
            "×",
        ),
        report.plain(
            "wake from deep idle ÷ the same, not shared", ratio(shared.wakes[1], not_shared.wakes[1]), "×"
        ),
        report.plain(
            "both servers ready: memory of all processes",
            report.median([a + b for a, b in zip(*shared.trees, strict=True)]),
            "MiB",
        ),
        report.plain(
            "the same, not shared",
            report.median([a + b for a, b in zip(*not_shared.trees, strict=True)]),
            "MiB",
        ),
    ]


def _samples(pairs: dict[str, Pair]) -> dict[str, Sequence[float]]:
    samples: dict[str, Sequence[float]] = {}
    for word, pair in pairs.items():
        for number, server in enumerate(("first", "second")):
            samples[f"{word}: {server} server's first load, s"] = pair.loads[number]
            samples[f"{word}: {server} server's wake, s"] = pair.wakes[number]
            samples[f"{word}: {server} server's processes, MiB"] = pair.trees[number]
        samples[f"{word}: second server's own weights, MiB"] = [each / idle.MIB for each in pair.own]
    return samples


def _method() -> str:
    return (
        f"{ROUNDS} pairs of servers with shared weights and as many without, alternating, each pair with an empty"
        " cache on a disk, on the CPU. DeepSeek-OCR's published shape with two of its twelve layers, random weights,"
        " bfloat16: it has to be converted. The second server loads when the first one has read a page. Loads and"
        " wakes by the server's clock; memory while both are ready: the server's files in memory for weights, and of"
        " the shared image the pages that no other process has mapped (Private_Clean and Private_Dirty of smaps); of"
        " all processes their proportional set sizes. Cached files that no process has mapped are in no figure. The"
        " servers share the machine's cores with the client and nobody else."
    )
