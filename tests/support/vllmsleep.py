"""Called on a machine with a GPU (`nvml.machine`): the engine `vllm` with a stand-in for its server, put to sleep."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ocr_inference import engines
from ocr_inference.config.settings import ModelConfig, Source
from ocr_inference.device.gpu import Device
from ocr_inference.device.memory_accounting import NvmlMemoryAccounting
from ocr_inference.engines.vllm.engine import VllmEngine
from ocr_inference.protocol.engine import EngineError, Failure, Footprint, ModelSpec, Progress, Report
from ocr_inference.protocol.host_tier import HostTier
from ocr_wire.state import Model
from tests.support import vllm_standin
from tests.support.engines import make_config, picture, read, running, seen
from tests.support.enginesuite import answer, failure

UUID = "GPU-1"


def cycle(folder: Path) -> tuple[list[Footprint], list[str]]:
    """What load, two rounds of offload and restore, and unload say, and the texts that were read in between."""
    with _loaded(folder) as (engine, loaded):
        footprints, texts = [loaded], [answer(engine).text]
        for _ in range(2):
            footprints += [engine.offload(), engine.restore()]
            texts.append(answer(engine).text)
        return [*footprints, engine.unload()], texts


def put_to_sleep(folder: Path) -> Footprint:
    """What an offload says."""
    with _loaded(folder) as (engine, _):
        return engine.offload()


def asleep(folder: Path) -> Failure:
    """What a page says while the server sleeps: it would hold the request without a limit."""
    with _loaded(folder) as (engine, _):
        engine.offload()
        return failure(engine, picture())


def woken(folder: Path) -> tuple[Footprint, Footprint]:
    """What a load and, after a sleep, the restore say."""
    with _loaded(folder) as (engine, loaded):
        engine.offload()
        return loaded, engine.restore()


def doubted(folder: Path, *, hidden: bool = False) -> str:
    """What an offload says that isn't believed, and whether the memory is free after the unload that follows. With
    `hidden`, the GPU can't be measured from the load on."""
    with _loaded(folder) as (engine, _):
        if hidden:
            hide()
        try:
            engine.offload()
        except EngineError as error:
            said = str(error)
        else:
            said = "it was believed"
        engine.unload()
        return f"{said}; {engine.pid}"


def hide() -> None:
    """From now on the driver doesn't say what is taken of a GPU."""
    with Path(os.environ["NVIDIA_STUB"]).open("a") as state:
        state.write("refuse nvmlDeviceGetMemoryInfo 999 all\n")


def unseen(folder: Path) -> int:
    """Bytes of a model whose GPU can't be measured from the download on."""
    with _loaded(folder, lambda progress: hide() if progress.phase == "checking" else None) as (_, loaded):
        return loaded.device_bytes


def crowded(folder: Path) -> int:
    """Bytes of a model before whose start another process leaves the GPU, while the checkpoint is fetched."""
    state = Path(os.environ["NVIDIA_STUB"])
    free = f" {vllm_standin.FREE} "
    state.write_text(state.read_text().replace(free, f" {vllm_standin.FREE // 2} "))

    def leave(progress: Progress) -> None:
        if progress.phase == "checking":
            state.write_text(state.read_text().replace(f" {vllm_standin.FREE // 2} ", free))

    with _loaded(folder, leave) as (_, loaded):
        return loaded.device_bytes


def managed(folder: Path) -> tuple[Model, Model, Model]:
    """What the server's state says of a model after a page, after an offload, and after the next page."""
    return asyncio.run(_managed(folder))


async def _managed(folder: Path) -> tuple[Model, Model, Model]:
    _set_up(folder)
    config = make_config(ModelConfig(name="m", engine="vllm", source=Source(path=str(folder))))
    device = Device("cuda", UUID, "NVIDIA L40S", vllm_standin.TOTAL, (8, 9))
    with closing(NvmlMemoryAccounting(UUID)) as accounting:
        async with running(config, device, cuda_engines=("vllm",), accounting=accounting) as manager:
            await read(manager, "m")
            ready = seen(manager, "m")
            await manager.offload("m")
            asleep = seen(manager, "m")
            await read(manager, "m")
            return ready, asleep, seen(manager, "m")


def _set_up(folder: Path) -> None:
    os.environ |= {
        "OCR_VLLM_PYTHON": str(vllm_standin.interpreter(folder)),
        "VLLM_STANDIN_FAULTS": str(folder / "faults.json"),
        "VLLM_STANDIN_GPU": os.environ["NVIDIA_STUB"],
    }


@contextmanager
def _loaded(folder: Path, report: Report = lambda _: None) -> Iterator[tuple[VllmEngine, Footprint]]:
    _set_up(folder)
    spec = ModelSpec(name="m", engine="vllm", device="cuda", gpu_uuid=UUID, path=str(folder))
    host = HostTier.create("m")
    engine = engines.create(spec, host, report)
    assert isinstance(engine, VllmEngine)
    try:
        yield engine, engine.load()
    finally:
        engine.unload()
        host.close()
