"""The hub's cache on the disk, as huggingface_hub and `hf` lay it out; several pods and other programs may share it.

models--<owner>--<name>/refs/<revision>            the commit that a branch or tag stood for when it was last asked
models--<owner>--<name>/trees/<commit>.json        what a commit consists of: names, sizes, hashes
models--<owner>--<name>/blobs/<hash>               a complete file: it appears whole, by renaming
models--<owner>--<name>/blobs/<hash>.incomplete    its first bytes so far, continued by the next process that needs it
models--<owner>--<name>/snapshots/<commit>/<name>  a link to the blob; the file itself where links can't be made
.locks/models--<owner>--<name>/<hash>.lock         held by the one process that downloads the file
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from ocr_inference.checkpoints.sources import checking, selection
from ocr_inference.protocol.engine import EngineError

COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_MAX_TREE_BYTES: Final = 16 << 20
"""Of `selection.MAX_FILES` entries, each with two hashes: 4 MB."""
_HASH: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_INCOMPLETE: Final = ".incomplete"
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""File systems without locks say one of these: then two pods may download the same, each rename is still whole."""
_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
"""File systems without symbolic links say one of these."""


class _Entry(msgspec.Struct, frozen=True):
    size: int
    lfs_size: int | None = None


class _Tree(msgspec.Struct, frozen=True):
    format_version: Literal[1]
    files: dict[str, _Entry]


def location(environ: Mapping[str, str], cache_dir: Path) -> Path:
    """Return the hub's cache: where huggingface_hub's variables say, else in the server's own `cache_dir`."""
    if folder := environ.get("HF_HUB_CACHE"):
        return Path(folder).expanduser()
    if folder := environ.get("HF_HOME"):
        return Path(folder).expanduser() / "hub"
    return cache_dir / "hub"


class Place:
    """Part of the cache with one repository. A `digest` is `sha256:…` or `git:…`; what follows is the blob's name."""

    def __init__(self, cache: Path, repo: str) -> None:
        self.root = cache / f"models--{repo.replace('/', '--')}"
        self._locks = cache / ".locks" / self.root.name

    def folder(self, commit: str) -> Path:
        return self.root / "snapshots" / commit

    def blob(self, digest: str) -> Path:
        return self.root / "blobs" / _name(digest)

    def incomplete(self, digest: str) -> Path:
        return self.root / "blobs" / f"{_name(digest)}{_INCOMPLETE}"

    def pinned(self, revision: str) -> str | None:
        """Return the commit of a revision, if the cache knows it."""
        if COMMIT.fullmatch(revision):
            return revision
        with contextlib.suppress(OSError, ValueError):
            if path := self._ref(revision):
                text = path.read_text()[:41].strip()
                if COMMIT.fullmatch(text):
                    return text
        return None

    def pin(self, revision: str, commit: str) -> None:
        """Remember what a branch or tag stands for. Quietly left out where the cache can't be written."""
        path = self._ref(revision)
        if path is not None and not COMMIT.fullmatch(revision) and self.pinned(revision) != commit:
            with contextlib.suppress(OSError):
                _write(path, commit.encode())

    def record(self, commit: str, tree: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep what a commit consists of, so that what is missing shows offline, too. Quietly, as `pin`."""
        path = self._tree(commit)
        with contextlib.suppress(OSError):
            if not path.exists():
                _write(path, json.dumps({"format_version": 1, "files": tree}, indent=1).encode())

    def problem(self, commit: str) -> str | None:
        """Return what a commit lacks to be used without asking the hub; None if nothing. Hashes nothing.

        Names and sizes are compared with what `record`, or huggingface_hub, has kept of the commit. Without that,
        as in a cache that older tools have filled, a checkpoint that can be read is one.
        """
        try:
            weights = checking.check(self.folder(commit)).weights
        except EngineError as error:
            return error.failure.message
        sizes = self._sizes(commit)
        for name in (*selection.supporting(sizes), *weights):
            if name in sizes and not self.has(commit, name, sizes[name]):
                return f"{name} is missing, or not {sizes[name]} bytes long"
        return None

    def has(self, commit: str, name: str, size: int) -> bool:
        """Return whether a commit's file is there in its size; the program that put it there verified its content."""
        return _size(self.folder(commit) / name) == size

    def held(self, commit: str, name: str, digest: str) -> int:
        """Return the bytes of a file that are on the disk, complete or not."""
        paths = (self.folder(commit) / name, self.blob(digest), self.incomplete(digest))
        return next((size for size in map(_size, paths) if size is not None), 0)

    def link(self, commit: str, name: str, digest: str) -> None:
        """Make a blob appear as a commit's file."""
        path, blob = self.folder(commit) / name, self.blob(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = _fresh(blob)
        try:
            # Relative to where it will be: the cache may be moved, or mounted elsewhere.
            fresh.symlink_to(Path("..", "..", "blobs", blob.name))
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            blob.replace(path)
        else:
            fresh.replace(path)

    def discard(self, commit: str, brought: Mapping[str, str], begun: Collection[str]) -> None:
        """Remove files that one download `brought` (name and digest), and what is `begun` of others."""
        for name, digest in brought.items():
            (self.folder(commit) / name).unlink(missing_ok=True)
            self.blob(digest).unlink(missing_ok=True)
        for digest in begun:
            self._drop(_name(digest))
        with contextlib.suppress(OSError):
            self.folder(commit).rmdir()
        if not self.folder(commit).exists():
            with contextlib.suppress(OSError):
                self._tree(commit).unlink()

    def sweep(self) -> None:
        """Remove what is left of downloads that no process is working on."""
        for path in self.root.glob(f"blobs/*{_INCOMPLETE}"):
            # huggingface_hub's own have a random part in their names and are of use to its process only.
            if _HASH.fullmatch(name := path.name.removesuffix(_INCOMPLETE)):
                self._drop(name)

    @contextmanager
    def locked(self, digest: str, wait: Callable[[], None]) -> Iterator[None]:
        """Hold a file's lock; while another process holds it, `wait` is called again and again.

        It is the one that huggingface_hub takes. The kernel gives it back when the process ends, however it ends.
        """
        (self.root / "blobs").mkdir(parents=True, exist_ok=True)
        with self._lock_file(_name(digest)) as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    wait()
                except OSError as error:
                    if error.errno not in _NO_LOCKS:
                        raise
                    break
            yield

    def _drop(self, name: str) -> None:
        """Remove an incomplete file, unless another process is working on it."""
        path = self.root / "blobs" / f"{name}{_INCOMPLETE}"
        if path.exists():
            with contextlib.suppress(OSError), self._lock_file(name) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()

    def _sizes(self, commit: str) -> Mapping[str, int]:
        """Return the sizes of all files of a commit; empty where they aren't known."""
        try:
            with open(self._tree(commit), "rb") as file:
                tree = msgspec.json.decode(file.read(_MAX_TREE_BYTES), type=_Tree)
        except (OSError, ValueError, RecursionError):
            return {}
        return {
            name: entry.size if entry.lfs_size is None else entry.lfs_size
            for name, entry in tree.files.items()
        }

    def _tree(self, commit: str) -> Path:
        return self.root / "trees" / f"{commit}.json"

    def _ref(self, revision: str) -> Path | None:
        """Return the file of a branch or tag; None for a name that would lead elsewhere."""
        parts = revision.split("/")
        return self.root.joinpath("refs", *parts) if all(map(selection.is_plain, parts)) else None

    @contextmanager
    def _lock_file(self, name: str) -> Iterator[int]:
        # The file stays: removing it would let a second process lock a new one while the first holds the old one.
        self._locks.mkdir(parents=True, exist_ok=True)
        number = os.open(self._locks / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
        try:
            yield number
        finally:
            os.close(number)


def _name(digest: str) -> str:
    return digest.rpartition(":")[2]


def _size(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return None


def _write(path: Path, data: bytes) -> None:
    """Write a small file so that it appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = _fresh(path)
    fresh.write_bytes(data)
    fresh.replace(path)


def _fresh(path: Path) -> Path:
    """Return a name beside a file for what will replace it. Process numbers don't do: each pod counts its own."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
