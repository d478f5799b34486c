"""Pages, configurations and running managers for tests of the inference server."""

import asyncio
import io
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from PIL import Image

from ocr_inference.config.settings import Config, Effective, ModelConfig, effective
from ocr_inference.device.gpu import Device
from ocr_inference.manager.manager import Manager
from ocr_inference.protocol.engine import InferRequest, PageOptions, PageResult
from ocr_inference.protocol.page_file import Page, PageFile
from ocr_wire.live_settings import IdleValues, LiveValues, QueueValues
from ocr_wire.state import Model
from tests.support.patience import PATIENCE

SIMULATED = Device("simulated", "GPU-test", "NVIDIA-L40S", 1_000_000)


def picture(width: int = 40, height: int = 20, color: str = "white", kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height), color).save(data, kind)
    return data.getvalue()


def page(color: str = "white") -> InferRequest:
    return InferRequest(image=picture(color=color))


@contextmanager
def handed(request: InferRequest | None = None) -> Iterator[Page]:
    """The page as the server passes it on; its file is closed when the block ends."""
    request = request or page()
    assert isinstance(request.image, bytes)
    options = PageOptions(**{name: getattr(request, name) for name in PageOptions.__struct_fields__})
    with PageFile.of(request.image) as file:
        yield Page(file, options)


def make_config(*models: ModelConfig, queue_limit: int = 64) -> Config:
    return Config(models=models or (make_model(),), queue=QueueValues(limit=queue_limit))


def make_model(
    name: str = "alpha", engine: str = "fake", memory: int | None = None, **options: object
) -> ModelConfig:
    return ModelConfig(name=name, engine=engine, gpu_memory=memory, options=options)  # type: ignore[arg-type]


def idle(offload: float = -1, leave: float = -1, release: float = -1, drop: float = -1) -> IdleValues:
    return IdleValues(
        offload_after_seconds=offload,
        exit_after_seconds=leave,
        drop_standby_after_seconds=drop,
        release_after_seconds=release,
    )


def live(config: Config, **values: object) -> Effective:
    return effective(config, LiveValues(**values))  # type: ignore[arg-type]


@asynccontextmanager
async def running(
    config: Config | None = None,
    device: Device = SIMULATED,
    settings: Effective | None = None,
    **arguments: object,
) -> AsyncIterator[Manager]:
    """A manager at work by these settings, else by those of the configuration; everything is over when the block
    ends."""
    config = config or make_config()
    manager = Manager(
        config,
        settings or effective(config, LiveValues()),
        device,
        environ=os.environ,
        **arguments,  # type: ignore[arg-type]
    )
    async with asyncio.TaskGroup() as tasks:
        owner = tasks.create_task(manager.run())
        try:
            yield manager
        finally:
            if not owner.done():
                await manager.close(grace_seconds=10)


async def read(
    manager: Manager,
    model: str = "alpha",
    request: InferRequest | None = None,
    deadline: float | None = None,
) -> PageResult:
    with handed(request) as sent:
        async with manager.lease(model, deadline, page=sent) as lease:
            return await lease.infer(sent)


def seen(manager: Manager, model: str = "alpha") -> Model:
    return manager.snapshot().model(model)


def worker_pid(manager: Manager, model: str = "alpha") -> int:
    """The process of the model's worker, which must be running."""
    return manager.snapshot().worker_pids[model]


async def started(manager: Manager, model: str = "alpha") -> int:
    """The process of the model's worker, as soon as there is one."""
    async with asyncio.timeout(20):
        async for snapshot in manager.changes():
            if model in snapshot.worker_pids:
                return snapshot.worker_pids[model]
    raise AssertionError("the manager ended before")


async def until(
    manager: Manager, condition: Callable[[Model], bool], model: str = "alpha", seconds: float = PATIENCE
) -> Model:
    """Follow the manager's changes until the condition holds."""
    async with asyncio.timeout(seconds):
        async for snapshot in manager.changes():
            if condition(found := snapshot.model(model)):
                return found
    raise AssertionError(f"the manager ended before; {seen(manager, model)}")


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but isn't collected doesn't."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def eventually(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """For conditions outside the manager, which nothing announces: look again until they hold."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        await asyncio.sleep(0.01)


class Faults:
    """Tells a running fake engine how its next calls go."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "faults.json"
        self.set()

    def set(self, **faults: str) -> None:
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(faults))
        part.replace(self.file)


def faulty(faults: Faults) -> Config:
    return make_config(make_model(faults_file=str(faults.file)))
