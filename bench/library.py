"""What the library's manager does to a model in a program with threads, beside another class of the same methods.

`OCR_BENCH_OTHER` names a Python file with a class `GPUResourceManager` of which the same is measured: `get_model` with
a load function that returns two things, `force_offload`, `get_status`, `start_monitor`. It isn't part of this
repository.
"""

import asyncio
import importlib.util
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, Self

from bench import report
from ocr_inference import GPUResourceManager, SharedGPU

MIB: Final = int(os.environ.get("BENCH_LIBRARY_MIB", "256"))
USES: Final = 20
THREADS: Final = 4
GIVE_UP: Final = 40.0
"""Seconds for an idle model to leave: longer than a look every 30 s takes."""


def make_model() -> Any:
    import torch  # noqa: PLC0415 - it takes seconds, and other measurements do without

    class Model(torch.nn.Module):
        """Weights that a move to the other place copies, as if one of the two were a GPU."""

        def __init__(self) -> None:
            super().__init__()
            self.parts = torch.nn.ParameterList(
                torch.nn.Parameter(torch.ones(1 << 19, dtype=torch.bfloat16), requires_grad=False)
                for _ in range(MIB)
            )
            self.copied = 0

        def forward(self) -> float:
            return float(self.parts[0][:1000].float().sum())

        def cpu(self) -> Self:
            return self._copy()

        def to(self, *_: Any, **__: Any) -> Self:
            return self._copy()

        def _copy(self) -> Self:
            for part in self.parts:
                part.data = part.data.clone()
                self.copied += part.nbytes
            return self

    return Model()


Use = Callable[[], AbstractContextManager[Any]]


class Measured:
    """A manager: how a model is used, as its documentation says, and what is seen of it."""

    def __init__(self, manager: Any, model: Any, use: Use, copied: Callable[[], tuple[int, int]]) -> None:
        self.manager, self.model, self.use, self.copied = manager, model, use, copied

    def location(self) -> str:
        return str(self.manager.get_status()["model_location"])


def ours() -> Measured:
    model = make_model()
    manager = GPUResourceManager(60, gpu=SharedGPU("simulated"), load_func=lambda: (model, None))

    def copied() -> tuple[int, int]:
        status = manager.get_status()
        return status["copied_to_gpu"], status["copied_back"]

    return Measured(manager, model, manager.lease, copied)


def other(file: Path) -> Measured:
    spec = importlib.util.spec_from_file_location("other_manager", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model, manager = make_model(), module.GPUResourceManager(idle_timeout=60)
    manager.start_monitor()

    @contextmanager
    def use() -> Iterator[Any]:
        """The way of its own service: offload after each use."""
        try:
            yield manager.get_model(load_func=lambda: (model, None))
        finally:
            manager.force_offload()

    return Measured(manager, model, use, lambda: (model.copied // 2, model.copied // 2))


def in_a_row(measured: Measured) -> list[float]:
    """Seconds of each use by one caller."""
    seconds = []
    for _ in range(USES):
        began = time.perf_counter()
        with measured.use() as (model, _):
            model()
        seconds.append(time.perf_counter() - began)
    return seconds


def offloads(measured: Measured) -> list[float]:
    """Seconds of taking the model off the device."""
    seconds = []
    for _ in range(5):
        measured.manager.get_model(lambda: (measured.model, None))
        began = time.perf_counter()
        measured.manager.force_offload()
        seconds.append(time.perf_counter() - began)
    return seconds


def at_once(measured: Measured) -> int:
    """Uses by several threads during which the model left the device."""
    together = threading.Barrier(THREADS)

    def work() -> int:
        lost = 0
        for turn in range(USES):
            together.wait()
            with measured.use() as (model, _):
                model()
                time.sleep(0.002 * (turn % 5))  # computing for that long, while others end
                lost += measured.location() != "gpu"
        return lost

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(each.result() for each in [pool.submit(work) for _ in range(THREADS)])


def until_idle(measured: Measured, change: Callable[[Any], None]) -> float:
    """Seconds from a new timeout of half a second until the model, used a moment ago, has left; `GIVE_UP` if not."""
    measured.manager.get_model(lambda: (measured.model, None))
    began = time.perf_counter()
    change(measured.manager)
    while measured.location() == "gpu" and time.perf_counter() - began < GIVE_UP:
        time.sleep(0.01)
    return time.perf_counter() - began


def rows_of(name: str, measured: Measured, change: Callable[[Any], None]) -> list[report.Row]:
    seconds = in_a_row(measured)
    there, back = measured.copied()
    mib = 1 << 20
    rows = [
        report.plain(f"{name}: {USES} uses in a row, median of one", report.median(seconds) * 1000, "ms"),
        report.plain(f"{name}: copied to the device by them", there / mib, "MiB"),
        report.plain(f"{name}: copied back by them", back / mib, "MiB"),
        report.plain(f"{name}: an offload, median", report.median(offloads(measured)) * 1000, "ms"),
    ]
    lost = f"{name}: of {THREADS * USES} uses by {THREADS} threads, the model left during"
    rows.append(
        report.at_most(lost, at_once(measured), "", 0)
        if name == "ours"
        else report.plain(lost, at_once(measured), "")
    )
    idle = f"{name}: a timeout of 0.5 s, set while the model is in memory, takes it away after"
    rows.append(report.plain(idle, until_idle(measured, change), "s"))
    return rows


def _measure() -> report.Result:
    rows = rows_of("ours", ours(), lambda manager: manager.update_timeout(0.5))
    if file := os.environ.get("OCR_BENCH_OTHER"):
        rows += rows_of("other", other(Path(file)), lambda manager: setattr(manager, "idle_timeout", 0.5))
    return report.Result(
        name="library",
        method=f"A model of {MIB} MiB in {MIB} tensors, on a device that is a second buffer in host memory: a move "
        "copies. Ours is used by leases with an idle timeout of 60 s. The other class (OCR_BENCH_OTHER) is used as the "
        "service that it comes with does it, with an offload after each use; its moves are clones of all tensors. "
        f"After {GIVE_UP:g} s an idle model counts as one that stays.",
        rows=rows,
    )


async def measure() -> report.Result:
    return await asyncio.to_thread(_measure)
