"""Reads the machine, and what the settings name: driver, GPUs, libraries, folders, port, files of tokens.

The driver is asked through NVML, which takes nothing of a GPU. Only torch's own process touches one, for a moment.
"""

import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import structs

from ocr_inference import limits
from ocr_inference.api import tokens
from ocr_inference.check import verdict
from ocr_inference.check.facts import (
    Cache,
    Device,
    Driver,
    Engine,
    Gpu,
    Limits,
    LiveSettings,
    Port,
    Tokens,
    Torch,
)
from ocr_inference.config import live_settings
from ocr_inference.config.settings import Config, Settings
from ocr_inference.connections import files, listening
from ocr_inference.connections import limits as connection_limits
from ocr_inference.device import choosing, gpu, nvml
from ocr_inference.device.gpu import NoDevice
from ocr_inference.device.gpu_usage import MAX_GPUS
from ocr_inference.engines import INTERPRETED, built_for
from ocr_wire import names
from ocr_wire.checked import Invalid
from ocr_wire.engines import BY_NAME

PROBE = "ocr_inference.engines.probe"
ANSWER_SECONDS = 5.0
"""Time that a server has to say that it is there."""
PROBE_SECONDS = 180.0
"""Importing torch from a cold disk takes a minute."""
VERSION = """
import sys
from importlib.metadata import distributions
print(next((f"{each.name} {each.version}" for each in distributions() if each.name in sys.argv[1:]), ""))
"""
"""Program that says which of these distributions its Python has, and the version; it imports none of them."""


def device(settings: Settings) -> Device:
    """Return the device that the server would serve on, and how much of it is free."""
    try:
        found = choosing.resolve(settings)
    except NoDevice as error:
        return Device(requested=settings.device, problem=str(error))
    free = None
    if found.kind == "cuda" and found.uuid is not None:
        with contextlib.suppress(NoDevice), nvml.opened() as driver:
            free = driver.by_uuid(found.uuid).memory().free
    elif found.kind == "simulated" and found.uuid is not None and settings.simulated_gpu_dir is not None:
        taken = gpu.usages(settings.simulated_gpu_dir, found.uuid)
        free = found.memory_total_bytes - sum(usage.memory_bytes for _, usage in taken)
    return Device(
        requested=settings.device,
        kind=found.kind,
        uuid=found.uuid,
        product=found.product,
        memory_total_bytes=found.memory_total_bytes,
        memory_free_bytes=free,
        compute_capability=_words(found.compute_capability),
        dtype=verdict.dtype(found.kind, found.compute_capability),
    )


def driver(served_uuid: str | None) -> tuple[Driver, tuple[Gpu, ...]]:
    """Return NVIDIA's driver and all GPUs that it shows."""
    try:
        with nvml.opened() as opened:
            version, cuda_version = opened.versions()
            found = []
            for index in range(min(opened.count(), MAX_GPUS)):
                with contextlib.suppress(NoDevice):  # one that fell off the bus hides no other
                    found.append(_gpu(index, opened.by_index(index), served_uuid))
    except NoDevice as error:
        return Driver(problem=str(error)), ()
    return Driver(version=version, cuda_version=_words(cuda_version)), tuple(found)


def torch(environ: Mapping[str, str], uuid: str | None) -> Torch:
    """Return what torch can do, on that GPU or without one, by a process of its own."""
    visible = {"CUDA_VISIBLE_DEVICES": uuid or ""}
    try:
        done = subprocess.run(
            [sys.executable, "-m", PROBE],
            env={**environ, **visible},
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
        return msgspec.json.decode(done.stdout, type=Torch)
    except subprocess.TimeoutExpired:
        return Torch(problem=f"torch wasn't imported within {PROBE_SECONDS:.0f} s")
    except (OSError, msgspec.DecodeError) as error:
        return Torch(problem=f"torch can't be asked: {error}")


def interpreted(engine: Engine, environ: Mapping[str, str]) -> Engine:
    """Return an engine with the version of what it runs by an interpreter of its own; others as they are."""
    if engine.name not in INTERPRETED or engine.missing:
        return engine
    variable, names = BY_NAME[engine.name].interpreter, INTERPRETED[engine.name]
    python = environ[variable]
    try:
        done = subprocess.run(
            [python, "-I", "-c", VERSION, *names],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return structs.replace(engine, problem=f"{variable}={python} can't be run: {error}")
    lines = done.stdout.splitlines()  # what sitecustomize or a program around Python says comes first
    if done.returncode == 0 and lines and len(found := lines[-1].split()) == 2:
        name, version = found
        return structs.replace(engine, runs=version, computes_on=built_for(name, version))
    return structs.replace(engine, problem=f"{variable}={python} has no {names[0]}")


def cache(folder: Path, hub: Path) -> Cache:
    """Return whether both folders can be written, and what is free for the hub's."""
    problem = _unwritable(folder) or _unwritable(hub)
    free = None
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(_there(hub)).free
    return Cache(
        path=str(folder), hub_path=str(hub), writable=problem is None, free_bytes=free, problem=problem
    )


def _unwritable(folder: Path) -> str | None:
    """Return why nothing can be written to a folder, or to the nearest one above it that is there; None if it can."""
    there = _there(folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            return None
    except OSError as error:
        return f"{folder} can't be written by user {os.geteuid()} ({there}: {error.strerror})"


def _there(folder: Path) -> Path:
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())


def process_limits(settings: Settings, models: int) -> Limits:
    """Return what this process may use, and so a server of so many models."""
    open_files, connections, problem = files.open_files(), None, None
    try:
        connections = connection_limits.of(open_files, models, settings.max_connections).ordinary
    except connection_limits.TooFewFiles as error:
        problem = str(error)
    return Limits(
        open_files=open_files,
        connections=connections,
        problem=problem,
        cores=limits.cores(),
        threads=limits.threads(),
        memory_limit_bytes=limits.memory_limit(),
        memory_left_bytes=limits.memory_left(),
    )


def port(settings: Settings) -> Port:
    """Return whether the server could listen; listens for a moment."""
    try:
        listening.listen(settings.host, settings.port, settings.connection_times.stalled).close()
    except listening.CannotListen as error:
        if error.is_taken and _answers(settings.port):
            return Port(host=settings.host, port=settings.port, served=True)
        option = "--host or OCR_HOST" if error.is_of_host else "--port or PORT"
        end = ", or end what listens there" if error.is_taken else ""
        problem = f"{error}; choose another with {option}{end}"
        return Port(host=settings.host, port=settings.port, problem=problem)
    return Port(host=settings.host, port=settings.port)


def _answers(port: int) -> bool:
    """Return whether a server of this program answers at that port: in its pod, the port is always taken."""
    try:
        with contextlib.closing(
            http.client.HTTPConnection("localhost", port, timeout=ANSWER_SECONDS)
        ) as connection:
            connection.request("GET", names.PATH_LIVE)
            response = connection.getresponse()
            return response.read(16) == b"ok\n" and response.getheader("X-Request-ID") is not None
    except (OSError, http.client.HTTPException):
        return False


def token_files(settings: Settings) -> tuple[Tokens, ...]:
    """Return the configured files of tokens, and what is wrong with each."""
    files = {
        names.ENV_ADMIN_TOKEN_FILE: settings.admin_token_file,
        names.ENV_API_KEYS_FILE: settings.api_keys_file,
    }
    found = []
    for variable, path in files.items():
        if path is not None:
            problem, usable = tokens.examine(path)
            shown = tokens.shown(path)
            found.append(Tokens(variable=variable, path=shown, usable=usable, problem=problem or None))
    return tuple(found)


def live_settings_file(settings: Settings, config: Config) -> LiveSettings | None:
    """Return what the configured file of live settings declares, and what is wrong with it."""
    path = settings.live_settings_file
    if path is None:
        return None
    found, is_there = live_settings.look(path, config), os.path.exists(path)
    if isinstance(found, Invalid):
        return LiveSettings(path=str(path), is_there=is_there, problem=str(found))
    held = found.envelope
    return LiveSettings(
        path=str(path), is_there=is_there, revision=held.revision, ignored=tuple(held.ignored or ())
    )


def _gpu(index: int, card: nvml.Card, served_uuid: str | None) -> Gpu:
    what, _ = card.read()
    capability = card.compute_capability()
    return Gpu(
        index=index,
        uuid=what.uuid,
        product=what.product,
        memory_total_bytes=what.memory_bytes,
        memory_free_bytes=card.memory().free,
        compute_capability=_words(capability),
        dtype=verdict.dtype("cuda", capability),
        served=what.uuid == served_uuid,
    )


def _words(version: tuple[int, int] | None) -> str | None:
    return None if version is None else f"{version[0]}.{version[1]}"
