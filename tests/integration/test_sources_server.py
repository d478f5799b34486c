"""A server whose model comes from a hub: progress while it comes, clear errors where it doesn't, and it lives on."""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import huggingface_hub
import pytest

from tests.support import hub as hubs
from tests.support import inference, pages
from tests.support.inference import Server
from tests.support.patience import PATIENCE

TOKEN = "hf_secret_token"
WEIGHTS = "model.safetensors"
CONFIG = """
models:
  - name: m
    engine: fake
    source: {huggingFace: {repo: owner/name, revision: main}}
  - {name: other, engine: fake}
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[hubs.Hub]:
    with hubs.serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@dataclass(frozen=True)
class Site:
    server: Server
    cache: Path

    async def read(self, model: str = "m") -> tuple[int, Any]:
        return await self.server.read(pages.blank(), model=model)

    async def fails(self, *words: str) -> dict[str, Any]:
        """A request is refused with these words, the state says so, and the rest of the server works."""
        status, body = await self.read()
        assert (status, body["code"]) == (503, "load_failed"), body
        model = await self.server.model("m")
        for word in words:
            assert word in body["error"]
            assert word in model["last_failure"]["message"]
        assert TOKEN not in body["error"]
        assert hubs.SIGNATURE not in body["error"]
        assert (await self.read("other"))[0] == 200
        failure: dict[str, Any] = model["last_failure"]
        return failure

    async def works(self) -> None:
        """Now or as soon as the pause between two attempts is over."""
        async with asyncio.timeout(PATIENCE):
            while True:
                status, body = await self.read()
                if status == 200:
                    return
                assert body["code"] == "load_failed", body
                await asyncio.sleep(
                    0.05
                )  # the pause that the server asks for is longer; it tells the same until then

    def worker(self) -> int:
        (pid,) = self.server.running.manager.snapshot().worker_pids.values()
        return pid

    def left(self) -> set[str]:
        """Kinds of what lies in the cache: blobs, incomplete, locks, refs, snapshots, trees."""
        hub = self.cache / "hub"
        return {_kind(path.relative_to(hub)) for path in hub.rglob("*") if path.is_file()}

    def written(self) -> int:
        """Bytes of the largest file that is being downloaded."""
        files = self.cache.glob("hub/*/blobs/*.incomplete")
        return max((path.stat().st_size for path in files), default=0)


COMPLETE = {"blobs", "locks", "refs", "snapshots", "trees"}


def _kind(path: Path) -> str:
    if path.suffix in {".incomplete", ".lock"}:
        return "incomplete" if path.suffix == ".incomplete" else "locks"
    return path.parts[1]


@asynccontextmanager
async def serving(cache: Path) -> AsyncIterator[Site]:
    async with inference.server(CONFIG, cache_dir=cache) as server:
        yield Site(server, cache)


@pytest.fixture
async def site(hub: hubs.Hub, tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path) as site:
        yield site


async def metric(server: Server, name: str) -> float | None:
    async with server.http.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    found = [line for line in lines if line.startswith(f'{name}{{model="m"}}')]
    return float(found[0].rpartition(" ")[2]) if found else None


async def until(condition: Callable[[], bool]) -> None:
    """For what lies on a disk: nothing tells of it."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def reached(held: hubs.Hold) -> None:
    assert await asyncio.to_thread(held.reached.wait, PATIENCE)


async def test_progress_is_told_while_a_model_comes(
    hub: hubs.Hub, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    files = hubs.checkpoint(300_000)
    total = sum(map(len, files.values()))
    commit = hub.add("owner/name", files, token=TOKEN)
    held = hubs.Hold(200_000)
    hub.fail(WEIGHTS, held)
    async with site.server.http.get("/v1/state?watch=true") as watch:
        states = inference.events(watch)
        reading = asyncio.create_task(site.read())
        await reached(held)
        async with asyncio.timeout(PATIENCE):
            while not ((model := (await anext(states))["models"][0])["progress"] or {}).get("bytes_done"):
                pass
        assert model["revision"] == commit
        assert model["state"] == "loading"
        assert model["progress"]["phase"] == "downloading"
        assert 0 < model["progress"]["bytes_done"] <= total
        assert model["progress"]["files"] in {2, 3}
        assert await metric(site.server, "ocr_model_load_done_bytes") == model["progress"]["bytes_done"]
        held.free.set()
        assert (await reading)[0] == 200
    model = await site.server.model("m")
    assert (model["revision"], model["progress"], model["state"]) == (commit, None, "ready")
    assert model["host_bytes"] == len(files[WEIGHTS])
    assert await metric(site.server, "ocr_model_load_done_bytes") is None
    assert site.left() == COMPLETE
    assert TOKEN not in caplog.text
    assert hubs.SIGNATURE not in caplog.text


async def test_a_model_stays_the_commit_that_it_was_loaded_from(hub: hubs.Hub, site: Site) -> None:
    first = hub.add("owner/name", hubs.checkpoint(1000))
    await site.works()
    second = hub.add("owner/name", hubs.checkpoint(2000))
    asked = len(hub.seen)
    assert (await site.server.json("POST", "/gpu/release"))[0] == 200
    await site.works()
    model = await site.server.model("m")
    assert (model["revision"], model["loads"]) == (first, 2)
    assert len(hub.seen) == asked
    async with serving(site.cache) as another:
        await another.works()
        assert (await another.server.model("m"))["revision"] == second


async def test_a_restored_model_asks_nobody(hub: hubs.Hub, site: Site) -> None:
    hub.add("owner/name", hubs.checkpoint(1000))
    await site.works()
    hub.add("owner/name", hubs.checkpoint(2000))
    asked = len(hub.seen)
    os.kill(site.worker(), signal.SIGKILL)
    await site.server.until("m", worker="exited")
    await site.works()
    assert len(hub.seen) == asked


async def test_a_hub_that_refuses(hub: hubs.Hub, site: Site) -> None:
    failure = await site.fails("repository owner/name at 127.0.0.1, revision main: refused (401)")
    assert failure["reason"] == "SourceUnavailable"
    hub.add("owner/name", hubs.checkpoint())
    await site.works()


async def test_a_checkpoint_that_is_none(hub: hubs.Hub, site: Site) -> None:
    hub.add("owner/name", {**hubs.checkpoint(), "config.json": b"{}"})
    failure = await site.fails("config.json: model_type: is missing")
    assert failure["reason"] == "InvalidCheckpoint"
    assert (await site.server.model("m"))["revision"] is None
    hub.add("owner/name", hubs.checkpoint())
    await site.works()
    assert site.left() == COMPLETE


async def test_wrong_hashes(hub: hubs.Hub, site: Site) -> None:
    hub.add("owner/name", hubs.checkpoint())
    hub.fail(WEIGHTS, hubs.Corrupt(), hubs.Corrupt())
    assert (await site.fails(f"{WEIGHTS}: came 2 times with another hash"))["reason"] == "InvalidCheckpoint"
    assert "refs" not in site.left()
    await site.works()


async def test_cut_connections_are_no_failure(hub: hubs.Hub, site: Site) -> None:
    hub.add("owner/name", hubs.checkpoint(600_000))
    hub.fail(WEIGHTS, hubs.Cut(300_000))
    await site.works()
    assert (await site.server.model("m"))["last_failure"] is None


async def test_a_worker_killed_while_it_downloads_is_followed_by_one_that_goes_on(
    hub: hubs.Hub, site: Site
) -> None:
    hub.add("owner/name", hubs.checkpoint(300_000))
    held = hubs.Hold(200_000)
    hub.fail(WEIGHTS, held)
    reading = asyncio.create_task(site.read())
    await reached(held)
    await site.server.until("m", state="loading", worker="running")
    await until(lambda: site.written() >= 200_000)
    os.kill(site.worker(), signal.SIGKILL)
    status, body = await reading
    assert (status, body["code"]) == (503, "load_failed")
    held.free.set()
    await site.works()
    assert hub.asked("/cdn/")[-1].range == "bytes=200000-"
    assert site.left() == COMPLETE


async def test_a_server_that_stops_while_it_downloads_keeps_what_came(hub: hubs.Hub, tmp_path: Path) -> None:
    hub.add("owner/name", hubs.checkpoint(300_000))
    held = hubs.Hold(200_000)
    hub.fail(WEIGHTS, held)
    async with inference.server(CONFIG, cache_dir=tmp_path, drain_seconds=0.2) as server:
        first = Site(server, tmp_path)
        reading = asyncio.create_task(first.read())
        await reached(held)
        await until(lambda: first.written() >= 200_000)
    with contextlib.suppress(aiohttp.ClientError):
        assert (await reading)[0] == 503
    held.free.set()
    async with serving(tmp_path) as second:
        await second.works()
    assert hub.asked("/cdn/")[-1].range == "bytes=200000-"


async def test_a_limit_on_files_is_a_full_disk_and_gives_back_what_was_written(
    hub: hubs.Hub, site: Site
) -> None:
    hub.add("owner/name", hubs.checkpoint(300_000))
    held = hubs.Hold(100_000)
    hub.fail(WEIGHTS, held)
    reading = asyncio.create_task(site.read())
    await reached(held)
    resource.prlimit(site.worker(), resource.RLIMIT_FSIZE, (200_000, 200_000))
    held.free.set()
    status, body = await reading
    assert (status, body["code"]) == (503, "load_failed")
    assert "no room for owner/name" in body["error"]
    assert (await site.server.model("m"))["last_failure"]["reason"] == "DiskFull"
    assert site.left() <= {"locks"}
    await site.works()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"can't mount a small disk: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(file: Path) -> None:
    """Write until the disk is full."""
    with open(file, "wb", buffering=0) as others, contextlib.suppress(OSError):
        while others.write(b"x" * (1 << 16)):
            pass


async def test_a_disk_that_is_too_small_is_not_begun_to_be_filled(hub: hubs.Hub, tmp_path: Path) -> None:
    hub.add("owner/name", hubs.checkpoint(5 << 20))
    with small_disk(tmp_path / "disk", "20m") as disk:
        async with serving(disk) as site:
            failure = await site.fails("owner/name takes 52", "more bytes in", "whose disk has")
            assert failure["reason"] == "DiskFull"
            assert site.left() <= {"locks"}
            assert hub.asked(WEIGHTS) == []


async def test_a_disk_that_others_fill_meanwhile(hub: hubs.Hub, tmp_path: Path) -> None:
    hub.add("owner/name", hubs.checkpoint(4 << 20))
    held = hubs.Hold(1 << 20)
    hub.fail(WEIGHTS, held)
    with small_disk(tmp_path / "disk", "24m") as disk:
        async with serving(disk) as site:
            reading = asyncio.create_task(site.read())
            await reached(held)
            fill(disk / "others")
            held.free.set()
            status, body = await reading
            assert (status, body["code"]) == (503, "load_failed")
            assert "no room for owner/name" in body["error"]
            assert (await site.server.model("m"))["last_failure"]["reason"] == "DiskFull"
            assert site.left() <= {"locks"}
            (disk / "others").unlink()
            await site.works()
        fill(disk / "others")
        async with serving(disk) as another:
            await another.works()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    bound = subprocess.run(
        f"mount --bind '{folder}' '{folder}' && mount -o remount,ro,bind '{folder}'",
        shell=True,
        capture_output=True,
        check=False,
    )
    if bound.returncode:
        pytest.skip(f"can't mount read-only: {bound.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("offline", ["0", "1"])
async def test_a_read_only_cache_that_others_have_filled(
    hub: hubs.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: str
) -> None:
    commit = hub.add("owner/name", hubs.checkpoint())
    filled = tmp_path / "filled"
    huggingface_hub.snapshot_download("owner/name", endpoint=hub.url, cache_dir=filled / "hub", token=TOKEN)
    monkeypatch.setenv("HF_HOME", str(filled))
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    hub.seen.clear()
    with read_only(filled):
        async with serving(tmp_path / "own") as site:
            await site.works()
            assert (await site.server.model("m"))["revision"] == commit
            assert hub.asked("/resolve/") == []
        assert site.left() == set()
        if offline == "0":
            hub.add("owner/name", hubs.checkpoint(2000))
            async with serving(tmp_path / "own") as site:
                failure = await site.fails(
                    f"the cache {filled}/hub/models--owner--name can't be used: Read-only"
                )
                assert failure["reason"] == "SourceUnavailable"


def data_bytes(pid: int) -> int:
    """Memory of a process that counts against its limit of data."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))


async def test_memory_that_ends_while_weights_are_read(hub: hubs.Hub, site: Site) -> None:
    hub.add("owner/name", hubs.checkpoint(96 << 20))
    held = hubs.Hold(1 << 20)
    hub.fail(WEIGHTS, held)
    reading = asyncio.create_task(site.read())
    await reached(held)
    limit = data_bytes(site.worker()) + (32 << 20)
    resource.prlimit(site.worker(), resource.RLIMIT_DATA, (limit, limit))
    held.free.set()
    status, body = await reading
    assert (status, body["code"]) == (503, "load_failed"), body
    assert (await site.server.model("m"))["last_failure"]["reason"] == "OutOfMemory"
    await site.server.until("m", state="unloaded", host_bytes=0, memory_bytes=0)
    assert site.left() == COMPLETE
    await site.works()


async def test_a_mounted_folder_and_what_may_be_wrong_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    config = f"models: [{{name: m, engine: fake, source: {{path: {folder}}}}}, {{name: other, engine: fake}}]"
    async with inference.server(config, cache_dir=tmp_path / "cache") as server:
        site = Site(server, tmp_path / "cache")
        failure = await site.fails(f"folder {folder} has no config.json")
        assert failure["reason"] == "InvalidCheckpoint"
        for name, data in hubs.checkpoint().items():
            (folder / name).write_bytes(data)
        await site.works()
        assert (await server.model("m"))["revision"] is None
        assert not site.cache.exists()
