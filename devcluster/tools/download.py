"""Official programs fetched over HTTP: used only with their pinned SHA-256, and given up at once where nothing answers.

`OCR_DEVCLUSTER_DOWNLOADS` names a server that has the files below the names of their hosts, such as
`http://files.example/dl.k8s.io/…`; `none` fetches nothing. It needs no trust: sums are those of the official files.
"""

import contextlib
import hashlib
import http.client
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from devcluster.errors import ControlPlaneUnavailable
from devcluster.progress import Progress, duration
from devcluster.tools.official import Official

SETTING: Final = "OCR_DEVCLUSTER_DOWNLOADS"
_CONNECT_SECONDS: Final = 3.0
_SILENCE_SECONDS: Final = 30.0
"""How long a server that has answered may send nothing."""
_LEAST_BYTES_A_SECOND: Final = 1e5
"""From `_SILENCE_SECONDS` on: slower than that a build is quicker."""
_MOST_BYTES: Final = 512 * 2**20
"""Of a file; the largest is a fifth of that."""
_PIECE: Final = 2**20
_USUAL_BYTES_A_SECOND: Final = 6e6
"""50 Mbit/s: what the first estimate is made with."""


class _Unreachable(Exception):
    """A server doesn't answer, or not with the file; `str()` is the reason."""


class Downloads:
    """Fetcher that stops for good when a server doesn't answer: a machine without a way out has none to any of them."""

    def __init__(
        self,
        pins: Mapping[str, Official],
        environment: Mapping[str, str],
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pins = pins
        self._server = environment.get(SETTING, "").rstrip("/")
        self._progress = progress
        self._clock = clock
        self._refused = f"{SETTING}=none" if self._server == "none" else ""

    def fetch(self, names: Sequence[str], folder: Path) -> set[str]:
        """Fetch what can be had of the programs into the folder, and return their names; the others are to be built.

        Raises ControlPlaneUnavailable when a file isn't the pinned one, or can't be written.
        """
        sizes = self._sizes({name: self._pins[name] for name in names if name in self._pins})
        if not sizes:
            return set()
        total = sum(sizes.values())
        hosts = dict.fromkeys(urlsplit(self._url(self._pins[name])).netloc for name in sizes)
        self._progress.say(
            f"  fetching {', '.join(sizes)} from {', '.join(hosts)}, by their pinned SHA-256: "
            f"{total / 1e6:.0f} MB, about {duration(total / _USUAL_BYTES_A_SECOND)} at 50 Mbit/s"
        )
        fetched: set[str] = set()
        try:
            for name, size in sizes.items():
                self._file(name, self._pins[name], size, folder)
                fetched.add(name)
        except _Unreachable as error:
            self._refuse(error)
        except OSError as error:
            raise ControlPlaneUnavailable(
                f"programs can't be written to {folder} ({error}): they need {total / 1e6:.0f} MB there, or set "
                "XDG_CACHE_HOME to another folder"
            ) from error
        return fetched

    def _sizes(self, wanted: Mapping[str, Official]) -> dict[str, int]:
        """Ask for the sizes, until a server doesn't answer."""
        sizes: dict[str, int] = {}
        try:
            for name, official in wanted.items():
                if not self._refused:
                    sizes[name] = self._size(official)
        except _Unreachable as error:
            self._refuse(error)
        return sizes

    def _refuse(self, error: _Unreachable) -> None:
        self._refused = str(error)
        self._progress.say(f"  {error}, so no more is fetched")

    def _url(self, official: Official) -> str:
        return f"{self._server}/{official.url.split('://')[1]}" if self._server else official.url

    def _size(self, official: Official) -> int:
        with self._open("HEAD", official, _CONNECT_SECONDS) as answer, self._reasons(official):
            return int(answer.headers.get("Content-Length") or 0)

    def _file(self, name: str, official: Official, size: int, folder: Path) -> None:
        draft = folder / f".{name}.download"
        try:
            self._save(name, official, size, draft)
            if official.member:
                with tarfile.open(draft, "r:gz") as archive, (folder / name).open("wb") as program:
                    inside = archive.extractfile(official.member)
                    assert inside is not None  # the sum is right, so the archive is the known one
                    shutil.copyfileobj(inside, program)
            else:
                os.replace(draft, folder / name)
            (folder / name).chmod(0o755)
        finally:
            draft.unlink(missing_ok=True)

    def _save(self, name: str, official: Official, size: int, target: Path) -> None:
        digest = hashlib.sha256()
        started, done = self._clock(), 0
        with self._open("GET", official, _SILENCE_SECONDS) as answer, target.open("wb") as file:
            while piece := self._piece(official, answer):
                digest.update(piece)
                file.write(piece)
                before, done = done, done + len(piece)
                if done > _MOST_BYTES:
                    raise _Unreachable(f"{self._url(official)} is larger than {_MOST_BYTES // 2**20} MiB")
                elapsed = self._clock() - started
                if elapsed > _SILENCE_SECONDS and done < elapsed * _LEAST_BYTES_A_SECOND:
                    raise _Unreachable(
                        f"{self._url(official)} comes too slowly, {done / elapsed / 1e3:.0f} kB/s"
                    )
                if elapsed > 1 and done // 10**6 > before // 10**6:
                    estimate = elapsed * max(size, done) / done
                    self._progress.count(
                        f"{name}: fetching MB", done // 10**6, max(size, done) // 10**6, elapsed, estimate
                    )
        if done < size:
            raise _Unreachable(f"{self._url(official)} ended after {done} of {size} bytes")
        if digest.hexdigest() != official.sha256:
            raise ControlPlaneUnavailable(
                f"{self._url(official)} is not the file that is pinned, and isn't used: its SHA-256 is "
                f"{digest.hexdigest()}, expected {official.sha256}. Something between here and there changes files: "
                f"have the programs built instead, with {SETTING}=none"
            )

    def _piece(self, official: Official, answer: http.client.HTTPResponse) -> bytes:
        with self._reasons(official):
            # What has come: `read` would wait until all of the piece has, however long that takes.
            return answer.read1(_PIECE)

    def _open(self, method: str, official: Official, seconds: float) -> http.client.HTTPResponse:
        with self._reasons(official):
            request = urllib.request.Request(self._url(official), method=method)
            answer = urllib.request.urlopen(request, timeout=seconds)
            if not isinstance(answer, http.client.HTTPResponse):  # a setting, or a redirection, that is none
                answer.close()
                raise urllib.error.URLError("not an HTTP server")
            return answer

    @contextlib.contextmanager
    def _reasons(self, official: Official) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as error:  # a setting that is no URL, too
            reason = getattr(error, "reason", None) or error
            raise _Unreachable(f"{self._url(official)} can't be had ({reason})") from error
