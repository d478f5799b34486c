"""The engine `vllm` with a stand-in for vLLM's server; `tests/vlm/test_vllm_itself.py` has vLLM itself."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ocr_inference import engines
from ocr_inference.engines.vllm import asking, command, keeper, leftovers, opening
from ocr_inference.engines.vllm.client import Client, Report
from ocr_inference.engines.vllm.engine import VllmEngine
from ocr_inference.protocol.engine import (
    Broken,
    Engine,
    EngineError,
    Failure,
    FailureKind,
    ModelSpec,
    PageResult,
    Progress,
)
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.workers import worker as workers
from ocr_inference.workers.processes import Direct
from tests.support import vllm_standin
from tests.support.enginesuite import PAGE, EngineSuite
from tests.support.patience import PATIENCE
from tests.support.vllmcontract import VllmContract, checkpoint, ends_with_everything, read, request
from tests.support.waiting import until


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkpoint, and a stand-in for vLLM's Python, which the environment names."""
    made = tmp_path_factory.mktemp("vllm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCR_VLLM_PYTHON", str(vllm_standin.interpreter(made)))
        patch.setenv("VLLM_STANDIN_FAULTS", str(made / "faults.json"))
        yield checkpoint(made)


def spec_of(folder: Path, **options: bool | float | str) -> ModelSpec:
    return ModelSpec(
        name="m", engine="vllm", path=str(folder), cache_dir=str(folder / "cache"), options=options
    )


@pytest.fixture
def faults(folder: Path) -> Iterator[Callable[..., None]]:
    file = folder / "faults.json"

    def set_faults(**given: object) -> None:
        file.write_text(json.dumps(given))

    yield set_faults
    file.unlink(missing_ok=True)


class TestVllm(EngineSuite):
    engine = "vllm"

    @pytest.fixture
    def spec(self, folder: Path) -> ModelSpec:
        return spec_of(folder)

    @pytest.fixture
    def make(self, spec: ModelSpec, host: HostTier) -> Iterator[Callable[[], Engine]]:
        made: list[Engine] = []

        def make() -> Engine:
            made.append(engines.create(spec, host))
            return made[-1]

        yield make
        for each in made:
            each.unload()


class TestContract(VllmContract):
    faults: Path
    """File that the stand-in for the server reads."""

    @pytest.fixture(autouse=True)
    def _has_faults(self, folder: Path) -> None:
        self.faults = folder / "faults.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        self.faults.write_text(json.dumps({"hold": True}))
        try:
            yield
        finally:
            self.faults.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def ready(folder: Path) -> Iterator[VllmEngine]:
    yield from loaded(spec_of(folder, max_batch=8))


def loaded(spec: ModelSpec, reports: list[Progress] | None = None) -> Iterator[VllmEngine]:
    host = HostTier.create("m")
    made = engines.create(spec, host, (lambda _: None) if reports is None else reports.append)
    assert isinstance(made, VllmEngine)
    try:
        made.load()
        yield made
    finally:
        made.unload()
        host.close()


@pytest.fixture
def engine(folder: Path) -> Iterator[VllmEngine]:
    yield from loaded(spec_of(folder))


def test_a_start_reports_its_stages(folder: Path) -> None:
    reports: list[Progress] = []
    for _ in loaded(spec_of(folder), reports):
        pass
    stages = [each.file for each in reports if each.phase == "starting"]
    assert stages[:3] == ["", "starting the server", "reading the configuration"]
    assert stages[-1] == "the server is ready"


def test_an_engine_whose_computing_process_dies_is_broken(
    engine: VllmEngine, faults: Callable[..., None]
) -> None:
    faults(hold=True)
    ends_with_everything(engine)


def test_pages_of_a_server_that_ends_for_lack_of_memory_may_be_tried_otherwise(
    engine: VllmEngine, faults: Callable[..., None]
) -> None:
    faults(page="memory")
    first, second = engine.infer([request(), request("more")])
    for each in (first, second):
        assert isinstance(each, Failure)
        assert (each.kind, each.of_host, each.shared) == (FailureKind.OUT_OF_MEMORY, True, True)
        assert "Tried to allocate 2 GiB" in each.message
        assert each.smaller, "sizes that the page may be read at"
    assert engine.folder is None, "nothing is left of the server"
    with pytest.raises(Broken, match="vLLM ended by itself"):
        engine.look()


def test_a_lack_of_memory_that_the_server_outlived_is_not_why_it_ends(
    engine: VllmEngine, faults: Callable[..., None]
) -> None:
    faults(page="short")
    assert isinstance(read(engine, request())[1], Failure)
    faults()
    assert isinstance(read(engine, request())[1], PageResult)
    faults(page="crash")
    with pytest.raises(Broken, match="as the faults say") as broken:
        engine.infer([request()])
    assert broken.value.failure.kind is FailureKind.WORKER_DIED


def test_an_error_within_an_answer_fails_its_page_alone(
    engine: VllmEngine, faults: Callable[..., None]
) -> None:
    faults(page="error")
    _, end = read(engine, request())
    assert isinstance(end, Failure)
    assert "as the faults say" in end.message
    faults()
    assert isinstance(read(engine, request())[1], PageResult)


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("missing", FailureKind.UNSUPPORTED, "has no vLLM"),
        ("checkpoint", FailureKind.INVALID_CHECKPOINT, "Odd"),
    ],
)
def test_a_start_that_fails_says_why(
    folder: Path, faults: Callable[..., None], fault: str, kind: FailureKind, says: str
) -> None:
    faults(start=fault)
    with pytest.raises(EngineError, match=says) as error:
        next(loaded(spec_of(folder)))
    assert error.value.failure.kind is kind


def test_a_start_without_memory_is_a_lack_of_memory(folder: Path, faults: Callable[..., None]) -> None:
    faults(start="memory")
    with pytest.raises(MemoryError, match="Tried to allocate 2 GiB"):
        next(loaded(spec_of(folder)))


def test_without_an_interpreter_the_model_is_refused_at_once(folder: Path) -> None:
    lacks = engines.unusable({"m": "vllm"}, {})
    assert lacks.keys() == {"m"}
    assert "OCR_VLLM_PYTHON" in lacks["m"]
    assert engines.unusable({"m": "vllm"}, os.environ) == {}


def test_an_interpreter_may_be_named_from_the_working_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OCR_VLLM_PYTHON", "./python")
    for each in loaded(spec_of(folder)):
        assert each.pid is not None


def test_a_start_that_can_not_begin_leaves_no_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    file = str(folder / "config.json")
    spec = ModelSpec(name="m", engine="vllm", path=str(folder), cache_dir=file)
    with pytest.raises(NotADirectoryError):
        next(loaded(spec))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_kept_of_a_page_that_is_read(ready: VllmEngine, folder: Path) -> None:
    assert ready.folder is not None
    client = Client(ready.folder / command.SOCKET, lambda: False, lambda: lambda: None)
    try:
        client.read(1, lambda: asking.ask(opening.open(folder), request(), ready.max_context), "chat")
        assert client.pages == 1
        reports: list[Report] = []
        while not any(isinstance(each, tuple) and isinstance(each[1], PageResult) for each in reports):
            reports += client.reports(1.0)
        assert client.pages == 0
    finally:
        client.close()


PROGRAM = """
import signal
import sys
from ocr_inference import engines
from ocr_inference.protocol.engine import ModelSpec
from ocr_inference.protocol.host_tier import HostTier
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may run under `nohup`, which has it ignored
engine = engines.create(ModelSpec(name="m", engine="vllm", path=sys.argv[1]), HostTier.create("m"))
engine.load()
print(engine.pid, flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Worker:
    """A worker with a server that is ready."""

    process: "subprocess.Popen[str]"
    kept: int
    """The keeper."""
    pids: list[int]
    """The server, its engine, and that one's worker."""
    folder: Path

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def worker(folder: Path) -> Iterator[Worker]:
    arguments = [sys.executable, "-c", PROGRAM, str(folder)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        kept = int(process.stdout.readline())
        pids = list(keeper.descendants(kept))
        assert len(pids) == 3
        yield Worker(process, kept, pids, Path(os.readlink(f"/proc/{pids[0]}/cwd")))
        process.kill()


def test_nothing_is_left_of_a_worker_that_is_killed(worker: Worker) -> None:
    worker.kill()
    until(lambda: not _alive([worker.kept, *worker.pids]))
    assert not worker.folder.exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP])
def test_nothing_is_left_where_a_workers_whole_group_is_killed(worker: Worker, how: signal.Signals) -> None:
    """As by `timeout`, and by a terminal that is closed."""
    os.killpg(worker.process.pid, how)
    worker.process.wait()
    until(lambda: not _alive([worker.kept, *worker.pids]))
    assert not worker.folder.exists()


async def test_a_worker_ends_with_a_server_that_dies_while_nothing_is_asked(folder: Path) -> None:
    host = HostTier.create("m")
    worker = await workers.Worker.start(spec_of(folder), host, Direct(os.environ))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(worker.run())
        try:
            await worker.call("load")
            os.kill(max(keeper.descendants(worker.pid)), signal.SIGKILL)
            async with asyncio.timeout(PATIENCE):
                end = await asyncio.shield(running)
        finally:
            worker.kill("the test is over")
    host.close()
    assert end.kind is FailureKind.WORKER_DIED


def test_what_a_killed_keeper_leaves_ends_at_the_next_start(worker: Worker) -> None:
    os.kill(worker.kept, signal.SIGKILL)
    worker.kill()
    # The server ends with its keeper; its engine and that one's worker don't. Any start on this machine ends them, also
    # one of a test beside this one.
    until(lambda: not _alive(worker.pids[:1]))
    leftovers.end()
    until(lambda: not _alive(worker.pids))
    until(lambda: not worker.folder.exists())


def test_processes_of_a_keeper_that_lives_are_no_leftovers(engine: VllmEngine) -> None:
    assert engine.pid is not None
    own = set(keeper.descendants(engine.pid))
    assert not own & set(leftovers.end())
    assert isinstance(read(engine, PAGE)[1], PageResult)


def test_processes_of_another_namespace_are_no_leftovers() -> None:
    """A machine sees those of its containers, where the keeper's number is another one."""
    others = {**os.environ, keeper.MARK: f"{2**30}:1:pid:[1]"}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=others) as process:
        assert process.pid not in leftovers.end()
        process.communicate(b"\n")
    assert process.returncode == 0


def _alive(pids: list[int]) -> list[int]:
    """Those that haven't ended; one that nobody collects, as in a container without an init, has."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            found.append(pid)
    return found
