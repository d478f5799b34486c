"""From what a model's configuration says to a folder on a disk."""

import hashlib
import importlib
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

from ocr_inference.checkpoints.sources import checking, faults
from ocr_inference.checkpoints.sources.cache import Place, location
from ocr_inference.checkpoints.sources.retry_policy import RetryPolicy
from ocr_inference.protocol.engine import EngineError, Failure, FailureKind, ModelSpec, Progress, Report
from ocr_wire import tokens

log = logging.getLogger(__name__)

DEFAULT_ENDPOINT: Final = "https://huggingface.co"

_PARTS: Final = 128
_PART_BYTES: Final = 4096
"""Of a file that are in its folder's key: half a MiB, so that a wake that needs the key isn't held up by it."""
_TRUE: Final = frozenset({"1", "on", "yes", "true"})


@dataclass(frozen=True)
class Checkpoint:
    folder: Path
    """Complete and checked; read only."""
    revision: str | None
    """The commit, where it comes from a hub."""

    @cached_property
    def key(self) -> str:
        """Name of the content: equal keys, equal files. For what is derived from a checkpoint and kept beside it. Of a
        folder it is worked out here; raises `OSError` where a file of it can't be read any more."""
        return _key(self.folder) if self.revision is None else self.revision


def fetch(
    spec: ModelSpec,
    cache_dir: Path,
    report: Report,
    environ: Mapping[str, str] | None = None,
    policy: RetryPolicy | None = None,
) -> Checkpoint:
    """Return the model's checkpoint: the mounted folder, or the hub's files in its cache, downloaded where they lack.

    1. A folder is checked and used as it is.
    2. A revision that is a commit, complete in the cache, is used without asking the hub.
    3. Offline, or where the hub can't be asked, what a branch or tag last stood for is used if it is complete.
    4. Else the hub says which commit the revision is now, and what is missing of that is downloaded.

    The cache is where `HF_HUB_CACHE` or `HF_HOME` say, else in `cache_dir`. Raises `EngineError`. `environ` (the
    process's, if None) has `HF_ENDPOINT`, `HF_TOKEN` and the like.
    """
    if spec.path is not None:
        report(Progress(phase="checking"))
        return _mounted(Path(spec.path))
    if spec.repo is None:
        message = f"model {spec.name}: engine {spec.engine} needs a source, huggingFace or path"
        raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message, param="source"))
    environ = os.environ if environ is None else environ
    place, revision = Place(location(environ, cache_dir), spec.repo), spec.revision or "main"
    known = place.pinned(revision)
    lacks = "it is not known which commit that is" if known is None else place.problem(known)
    usable = known if lacks is None else None
    if usable is not None and usable == revision:
        commit = usable
    elif environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE:
        if usable is None:
            message = f"{spec.repo} at {revision} is not complete in {place.root}, and HF_HUB_OFFLINE is set: {lacks}"
            raise faults.unavailable(message)
        commit = usable
    else:
        # Before the import: huggingface_hub reads them then, and quotes what it can't read.
        endpoint, token = _endpoint(environ), _token(environ)
        try:
            # Only here: its imports take longer than all else where nothing has to be downloaded.
            downloading = importlib.import_module("ocr_inference.checkpoints.sources.downloading")
        except ImportError as error:
            message = f"downloads need huggingface_hub ({error}); pip install 'ocr-operator[transformers]'"
            raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message)) from error
        asked = downloading.Asked(spec.repo, revision, place, usable, endpoint, token)
        commit = cast("str", downloading.bring(asked, report, policy or RetryPolicy.from_environ(environ)))
    folder = place.folder(commit)
    report(Progress(phase="checking", revision=commit))
    _check(folder)
    return Checkpoint(folder, commit)


def _mounted(folder: Path) -> Checkpoint:
    _check(folder)
    return Checkpoint(folder, None)


def _key(folder: Path) -> str:
    """Make a digest of names, sizes, times and parts of files. Sizes and times aren't enough: a model that was trained
    further has the sizes of the one before, and images that are built reproducibly have one time for all files."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        found = file.stat()
        digest.update(f"{file.name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
        if stat.S_ISREG(found.st_mode):
            with file.open("rb", buffering=0) as opened:
                for part in range(_PARTS):
                    offset = part * found.st_size // _PARTS
                    digest.update(os.pread(opened.fileno(), _PART_BYTES, offset))
    return f"path-{digest.hexdigest()[:32]}"


def _check(folder: Path) -> None:
    if names := checking.check(folder).remote_code:
        log.warning("the checkpoint names code of its own, which is not executed: %s", ", ".join(names))


def _endpoint(environ: Mapping[str, str]) -> str:
    endpoint = environ.get("HF_ENDPOINT", "").strip() or DEFAULT_ENDPOINT
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # it quotes what it takes for a port or a host, which may be half of a password
        usable = False
    if not usable:
        message = f"HF_ENDPOINT is not an http(s) address: {faults.shown(endpoint.rpartition('@')[2])}"
        raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message, param="HF_ENDPOINT"))
    return endpoint


def _token(environ: Mapping[str, str]) -> str | None:
    try:
        token = tokens.parse(environ.get("HF_TOKEN", ""))
        if token.startswith(('"', "'")):
            raise tokens.Unusable("has quotes around it: leave them out")
        if " " in token:
            raise tokens.Unusable("has a blank in it: give the token alone, hf_…")
    except tokens.Unusable as error:
        failure = Failure(kind=FailureKind.UNSUPPORTED, message=f"HF_TOKEN {error}", param="HF_TOKEN")
        raise EngineError(failure) from None
    return token or None
