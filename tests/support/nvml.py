"""A machine with NVIDIA's driver, as far as NVML tells: the real `pynvml` on a stand-in for the driver's library.

The loader looks for libraries where the process was told when it started, and `pynvml` never lets go of the one that
it has loaded, so what uses it runs in a process of its own.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

SOURCE = Path(__file__).with_suffix(".c")
LIBRARY = "libnvidia-ml.so.1"
GIB = 1 << 30

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Machine:
    """What is on it changes from call to call; nothing at first."""

    environ: dict[str, str]
    """Of programs that run on it."""
    _state: Path
    _process: ProcessPoolExecutor

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What a function of a module returns or raises when it is called on this machine."""
        return self._process.submit(function, *args, **kwargs).result(60)

    def clear(self) -> None:
        self._state.write_text("")

    def gpu(self, uuid: str, *, free: int = 40 * GIB, busy: int = 0) -> None:
        """One more GPU of 48 GiB; with a UUID that begins with `MIG-`, an instance. `busy` in percent."""
        self._add(f"gpu {uuid} {48 * GIB} {free} {busy} 8.9 NVIDIA L40S")

    def refuse(self, function: str, code: int, whose: str = "all") -> None:
        """From now on a function of NVML answers with an error, for the GPU of a UUID or for all."""
        self._add(f"refuse {function} {code} {whose}")

    def _add(self, line: str) -> None:
        with self._state.open("a") as file:
            file.write(f"{line}\n")


def build(folder: Path) -> None:
    """The library, in a folder for the loader to look in."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler (cc) for the stand-in of NVIDIA's library")
    name = f"-Wl,-soname,{LIBRARY}"
    subprocess.run([compiler, "-shared", "-fPIC", name, "-o", folder / LIBRARY, SOURCE], check=True)


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """A machine whose library lies in `folder`."""
    state = folder / "state"
    state.write_text("")
    told = {"LD_LIBRARY_PATH": str(folder), "NVIDIA_STUB": str(state)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        process = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        process.submit(os.getpid).result(60)
    with process:
        yield Machine({**os.environ, **told}, state, process)
