"""Called on a machine with a GPU (`nvml.machine`): the engine `vllm` with a stand-in for its server, put to sleep."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ocr_inference import engines
from ocr_inference.engines.vllm.engine import VllmEngine
from ocr_inference.protocol.engine import EngineError, Failure, Footprint, ModelSpec, Progress, Report
from ocr_inference.protocol.host_tier import HostTier
from tests.support import vllm_standin
from tests.support.engines import picture
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


def asleep(folder: Path) -> Failure:
    """What a page says while the server sleeps: it would hold the request without a limit."""
    with _loaded(folder) as (engine, _):
        engine.offload()
        return failure(engine, picture())


def lying(folder: Path) -> str:
    """What an offload says that frees nothing, and whether the memory is free after the unload that follows."""
    with _loaded(folder) as (engine, _):
        try:
            engine.offload()
        except EngineError as error:
            said = str(error)
        else:
            said = "it was believed"
        engine.unload()
        return f"{said}; {engine.pid}"


def crowded(folder: Path) -> int:
    """Bytes of a model before whose start another process leaves the GPU, while the checkpoint is fetched."""
    state = Path(os.environ["STUB_NVML"])
    free = f" {vllm_standin.FREE} "
    state.write_text(state.read_text().replace(free, f" {vllm_standin.FREE // 2} "))

    def leave(progress: Progress) -> None:
        if progress.phase == "checking":
            state.write_text(state.read_text().replace(f" {vllm_standin.FREE // 2} ", free))

    with _loaded(folder, leave) as (_, loaded):
        return loaded.device_bytes


@contextmanager
def _loaded(folder: Path, report: Report = lambda _: None) -> Iterator[tuple[VllmEngine, Footprint]]:
    os.environ |= {
        "OCR_VLLM_PYTHON": str(vllm_standin.interpreter(folder)),
        "VLLM_STANDIN_FAULTS": str(folder / "faults.json"),
        "VLLM_STANDIN_GPU": os.environ["STUB_NVML"],
    }
    spec = ModelSpec(name="m", engine="vllm", device="cuda", gpu_uuid=UUID, path=str(folder))
    host = HostTier.create("m")
    engine = engines.create(spec, host, report)
    assert isinstance(engine, VllmEngine)
    try:
        yield engine, engine.load()
    finally:
        engine.unload()
        host.close()
