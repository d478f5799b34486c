"""Weights that servers of a node share: one copy, the same answers, and what happens where sharing isn't possible."""

import asyncio
import errno
import json
import logging
import os
import resource
import shutil
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

pytest.importorskip("torch", reason="needs the extra `transformers`")

import torch

from ocr_inference.checkpoints.weights import layout, shared_image
from ocr_inference.checkpoints.weights.files import ImageNotWritten
from ocr_inference.checkpoints.weights.image import Key
from ocr_inference.engines.transformers import engine as transformers
from ocr_inference.engines.transformers import torchweights
from ocr_inference.engines.transformers.engine import TransformersEngine
from ocr_inference.engines.transformers.sharing import NotShared, Sharing
from ocr_inference.engines.transformers.torchweights import FlatModel
from ocr_inference.protocol.engine import InferRequest, ModelSpec, PageResult, Progress
from ocr_inference.protocol.host_tier import HostTier
from ocr_wire import live_settings, names
from tests.support import greedy, inference, pages
from tests.support.engines import picture
from tests.support.patience import PATIENCE

pytestmark = [
    pytest.mark.long,
    # Processors of transformers hand Pillow's pictures to numpy in a way that numpy will drop.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

CONVERTED, AS_IS = "deepseek_ocr", "lighton_ocr"
NEVER = dict.fromkeys(
    ("offloadAfterSeconds", "exitAfterSeconds", "releaseAfterSeconds", "dropStandbyAfterSeconds"), -1
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A checkpoint of a kind, made once."""
    return greedy.made_once(tmp_path_factory.mktemp("checkpoints"))


class Server:
    """What a server has for one model: a host tier that outlives engines."""

    def __init__(self, path: Path, cache: Path, device: Any = "simulated", **fields: Any) -> None:
        self.host = HostTier.create("test")
        self.reports: list[Progress] = []
        self.spec = ModelSpec(
            name="m",
            engine="transformers",
            device=device,
            path=str(path),
            cache_dir=str(cache),
            **{"options": {"threads": 1}, "share_weights": True, **fields},
        )

    def engine(self) -> TransformersEngine:
        return transformers.create(self.spec, self.host, self.reports.append)


def answer(engine: TransformersEngine) -> str:
    (result,) = engine.infer(
        [InferRequest(image=picture(60, 40), task="free", max_tokens=12, resolution="tiny")]
    )
    assert isinstance(result, PageResult), result
    return result.text


def ask_any(engine: TransformersEngine) -> str:
    (result,) = engine.infer([InferRequest(image=picture(60, 40), task="free", max_tokens=12)])
    assert isinstance(result, PageResult), result
    return result.text


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def image_of(cache: Path) -> Path:
    (file,) = (cache / shared_image.FOLDER).rglob(f"*{shared_image.SUFFIX}")
    return file


def mapping(pid: int | str, file: Path) -> dict[str, int]:
    """Fields of a process's mappings of a file, in KiB."""
    found: dict[str, int] = {}
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            inside = line.endswith(str(file))
        elif inside and words[-1] == "kB":
            found[words[0].rstrip(":")] = found.get(words[0].rstrip(":"), 0) + int(words[1])
    return found


# --- engines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "simulated"])
@pytest.mark.parametrize("kind", [CONVERTED, AS_IS])
def test_the_second_server_maps_what_the_first_one_made(
    folder: Callable[[str], Path], tmp_path: Path, kind: str, device: str
) -> None:
    alone = Server(folder(kind), tmp_path / "alone", device, share_weights=False)
    engine = alone.engine()
    engine.load()
    ask = answer if kind == CONVERTED else ask_any
    expected = ask(engine)
    servers = [Server(folder(kind), tmp_path / "shared", device) for _ in range(2)]
    engines = [server.engine() for server in servers]
    for number, (server, engine) in enumerate(zip(servers, engines, strict=True)):
        footprint = engine.load()
        size = image_of(tmp_path / "shared").stat().st_size
        assert (footprint.host_bytes, footprint.shared_bytes, footprint.image_failure) == (size, size, None)
        assert server.host.size < 100, "it only refers to the image"
        assert ask(engine) == expected
        assert {each.phase for each in server.reports} <= (
            {"checking"} if number else {"checking", "reading", "converting"}
        )
        engine.offload()
        engine.restore()
        assert ask(engine) == expected
    mapped = mapping("self", image_of(tmp_path / "shared"))
    assert mapped["Private_Dirty"] == mapped["Anonymous"] == 0
    assert mapped["Rss"] > 0
    assert not (tmp_path / "shared" / "images").exists(), "the image is kept once"
    for server, engine in zip(servers, engines, strict=True):
        engine.offload()
        successor = server.engine()  # as after the worker's exit
        successor.stand_by()
        assert successor.restore().shared_bytes == server_bytes(tmp_path)
        assert ask(successor) == expected
        assert successor.unload().host_bytes == 0
        assert server.host.size == 0


def server_bytes(folder: Path) -> int:
    return image_of(folder / "shared").stat().st_size


def test_servers_that_begin_at_once_convert_once(
    folder: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    servers = [Server(folder(CONVERTED), tmp_path) for _ in range(3)]
    engines = [server.engine() for server in servers]
    with caplog.at_level(logging.INFO), ThreadPoolExecutor(len(engines)) as pool:
        footprints = list(pool.map(lambda engine: engine.load(), engines))
    assert caplog.text.count("converting the checkpoint, once") == 1
    assert {each.shared_bytes for each in footprints} == {image_of(tmp_path).stat().st_size}
    assert len({answer(engine) for engine in engines}) == 1


def gone(file: Path) -> None:
    file.unlink()


def cut_off(file: Path) -> None:
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(data[:-1])


@pytest.mark.parametrize("harm", [gone, cut_off])
def test_a_model_in_deep_idle_whose_image_is_gone_loads_again(
    folder: Callable[[str], Path],
    tmp_path: Path,
    harm: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server(folder(AS_IS), tmp_path)
    engine = server.engine()
    engine.load()
    expected = ask_any(engine)
    engine.offload()
    harm(image_of(tmp_path))
    successor = server.engine()
    with pytest.raises(NotShared):
        successor.stand_by()
    with caplog.at_level(logging.WARNING):
        footprint = successor.restore()
    assert "loading again: its shared image can't be used" in caplog.text
    assert footprint.shared_bytes == image_of(tmp_path).stat().st_size
    assert ask_any(successor) == expected
    assert ask_any(engine) == expected, "who has the old one mapped reads on"


def test_a_load_that_failed_half_way_in_the_place_of_a_wake_is_tried_again(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """As where the image is gone and the device turns out to be full: the model stays in deep idle then, and wakes by
    a worker that finds host memory without a seal."""
    server = Server(folder(AS_IS), tmp_path)
    engine = server.engine()
    engine.load()
    expected = ask_any(engine)
    engine.offload()
    server.host.resize(image_of(tmp_path).stat().st_size)
    successor = server.engine()
    with pytest.raises(NotShared, match="failed half way"):
        successor.stand_by()
    assert successor.restore().shared_bytes == image_of(tmp_path).stat().st_size
    assert ask_any(successor) == expected


class Unmappable(FlatModel):
    """Model of a process that has no room in its address space."""

    def use_host(self, host: HostTier) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def test_an_image_that_only_this_process_can_not_map_stays(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = torch.nn.Linear(4, 4)
    plan = layout.plan(*torchweights.entries(model))
    key = Key("owner/name", "abc123", "torch.float32", "transformers 5.23.0", plan.digest)
    file = shared_image.path(tmp_path, key)
    file.parent.mkdir(parents=True)
    shared_image.write(file, key, memoryview(bytes(plan.total_bytes) + plan.seal))
    server = Server(tmp_path, tmp_path)
    sharing = Sharing(server.spec, server.host, server.reports.append)
    with pytest.raises(ImageNotWritten, match="can't be mapped: Cannot allocate memory"):
        sharing.attach(Unmappable(model, plan, server.host, None), key, plan)
    assert file.exists()


def test_a_damaged_image_is_made_again_and_named(
    folder: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Server(folder(AS_IS), tmp_path).engine()
    first.load()
    file = image_of(tmp_path)
    cut_off(file)
    second = Server(folder(AS_IS), tmp_path).engine()
    with caplog.at_level(logging.WARNING):
        assert second.load().shared_bytes == image_of(tmp_path).stat().st_size
    assert f"making its shared image again: {file.name}: has" in caplog.text
    assert ask_any(second) == ask_any(first)


def test_where_nothing_can_be_written_the_server_has_its_own(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """A file in the place of the cache's folder stands in for a disk that is full or can't be written."""
    (tmp_path / shared_image.FOLDER).write_text("in the way")
    server = Server(folder(AS_IS), tmp_path)
    engine = server.engine()
    footprint = engine.load()
    assert footprint.image_failure is not None
    assert "in memory of its own: shared image" in footprint.image_failure.message
    assert (footprint.shared_bytes, footprint.host_bytes) == (0, server.host.size)
    text = ask_any(engine)
    engine.offload()
    assert ask_any(restored(server)) == text


def restored(server: Server) -> TransformersEngine:
    engine = server.engine()
    engine.restore()
    return engine


def test_a_disk_that_is_full_at_the_end_leaves_the_model_ready(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """A limit on the size of files stands in for the disk: the weights in memory, a file too, just keep to it."""
    size = Server(folder(AS_IS), tmp_path / "other").engine().load().host_bytes
    server = Server(folder(AS_IS), tmp_path / "cache")
    engine = server.engine()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, hard))  # Python ignores SIGXFSZ
    try:
        footprint = engine.load()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert footprint.image_failure is not None
    assert "File too large" in footprint.image_failure.message
    assert footprint.shared_bytes == 0
    assert ask_any(engine)
    left = {each.name for each in (tmp_path / "cache" / shared_image.FOLDER).rglob("*") if each.is_file()}
    assert left == {shared_image.CLAIM}


# --- servers --------------------------------------------------------------------------------------------------


def configured(folder: Path, config: Path) -> str:
    model = {
        "name": "m",
        "engine": "transformers",
        "source": {"path": str(folder)},
        "options": {"threads": 1},
    }
    config.write_text(json.dumps({"models": [model], "idle": NEVER}))
    return str(config)


@asynccontextmanager
async def served(folder: Path, cache: Path, config: Path) -> AsyncIterator[tuple[aiohttp.ClientSession, int]]:
    environ = {names.ENV_CACHE_DIR: str(cache), names.ENV_SHARED_WEIGHTS: "on", names.ENV_DEVICE: "cpu"}
    async with (
        inference.process("serve", "--config", configured(folder, config), **environ) as process,
        aiohttp.ClientSession(await inference.url_of(process)) as http,
    ):
        yield http, process.pid


async def read(http: aiohttp.ClientSession) -> str:
    form = inference.form(pages.blank(), prompt_type="ocr", max_tokens="12")
    async with http.post(names.PATH_OCR, data=form) as response:
        assert response.status == 200, await response.text()
        text: str = (await response.json())["text"]
        return text


async def until(http: aiohttp.ClientSession, **wanted: object) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE), http.get(f"{names.PATH_STATE}?watch=true") as watch:
        async for state in inference.events(watch):
            model: dict[str, Any] = state["models"][0]
            if wanted.items() <= model.items():
                return model
    raise AssertionError(f"the watch ended before the model had {wanted}")


async def deep_idle(http: aiohttp.ClientSession, revision: int) -> dict[str, Any]:
    for number, idle in enumerate((NEVER | {"exitAfterSeconds": 0}, NEVER)):
        wanted = live_settings.envelope(1, revision + number, {"idle": idle})
        async with http.put(names.PATH_SETTINGS, json=msgspec.to_builtins(wanted)) as response:
            assert response.status == 200, await response.text()
        if not number:
            await until(http, worker="exited")
    return await until(http, state="offloaded")


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *children(child)]
    return found


def own_bytes(pid: int) -> int:
    """Memory of the files in memory that a server has for weights."""
    links = [each for each in Path(f"/proc/{pid}/fd").iterdir() if "memfd:ocr-weights" in os.readlink(each)]
    assert len(links) == 1
    return sum(each.stat().st_blocks * 512 for each in links)


async def test_two_servers_of_a_node_have_the_weights_in_memory_once(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    async with (
        served(folder(CONVERTED), cache, tmp_path / "a.json") as (one, first),
        served(folder(CONVERTED), cache, tmp_path / "b.json") as (two, second),
    ):
        texts = [await read(one), await read(two)]
        size = image_of(cache).stat().st_size
        for http in (one, two):
            model = await until(http, state="ready")
            assert (model["host_bytes"], model["shared_bytes"]) == (size, size)
        for pid in (first, second):
            sums: dict[str, int] = {}
            for process in [pid, *children(pid)]:
                for field, kib in mapping(process, image_of(cache)).items():
                    sums[field] = sums.get(field, 0) + kib
            assert sums["Rss"] * 1024 > 0.4 * size, "what the page needs, which isn't each expert"
            assert sums["Private_Dirty"] == sums["Anonymous"] == 0
            assert sums["Private_Clean"] < 0.05 * sums["Rss"]
            assert sums["Pss"] < 0.6 * sums["Rss"], "each counts half of it"
            assert own_bytes(pid) < 100_000
        for revision in (1, 3):
            for http in (one, two):
                model = await deep_idle(http, revision)
                assert (model["worker"], model["location"], model["shared_bytes"]) == ("exited", "cpu", size)
            texts += [await read(one), await read(two)]
        assert len(set(texts)) == 1
        shutil.rmtree(cache / shared_image.FOLDER)
        await deep_idle(two, 5)
        assert await read(two) == texts[0], "it loads again"
        assert (await until(two, state="ready"))["shared_bytes"] == image_of(cache).stat().st_size


async def test_an_image_that_is_cut_off_under_a_model_costs_its_worker_and_a_load(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """The system kills a process that reads a page which a file has no more (SIGBUS)."""
    cache = tmp_path / "cache"
    async with served(folder(CONVERTED), cache, tmp_path / "a.json") as (http, _):
        text = await read(http)
        image = image_of(cache)
        size = image.stat().st_size
        os.truncate(image, 4096)
        async with http.post(
            names.PATH_OCR, data=inference.form(pages.blank(), prompt_type="ocr")
        ) as response:
            assert response.status in (200, 503), "it is read again by another worker, or may be"
        assert await read(http) == text
        model = await until(http, state="ready")
        assert (model["shared_bytes"], image_of(cache).stat().st_size) == (size, size)
        async with http.get("/metrics") as response:
            lines = (await response.text()).splitlines()
        (line,) = (each for each in lines if each.startswith("ocr_model_shared_bytes{"))
        assert float(line.split()[-1]) == size
