"""Where a hub's checkpoints lie on the disk, which several pods may share.

models/<owner>--<name>/refs/<revision>      the commit that a branch or tag stood for when it was last asked
models/<owner>--<name>/<commit>/            a complete checkpoint: it appears whole, by renaming, and stays as it is
models/<owner>--<name>/<commit>.partial/    what was downloaded of one so far, continued by whoever comes next
models/<owner>--<name>/<commit>.lock        held by the one process that downloads it
"""

import contextlib
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

MANIFEST: Final = ".complete.json"
COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_MAX_MANIFEST_BYTES: Final = 4 << 20
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""File systems without locks say one of these: then two pods may download the same, each rename is still whole."""


class _Manifest(msgspec.Struct, frozen=True):
    sizes: dict[str, int]


class Place:
    """One repository's part of the cache."""

    def __init__(self, cache_dir: Path, repo: str) -> None:
        self.root = cache_dir / "models" / repo.replace("/", "--")

    def folder(self, commit: str) -> Path:
        return self.root / commit

    def partial(self, commit: str) -> Path:
        return self.root / f"{commit}.partial"

    def pinned(self, revision: str) -> str | None:
        """The commit of a revision as far as is known here."""
        if COMMIT.fullmatch(revision):
            return revision
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = self._ref(revision).read_text()[:41].strip()
            if COMMIT.fullmatch(text):
                return text
        return None

    def pin(self, revision: str, commit: str) -> None:
        """Remember what a branch or tag stands for. Quietly left out where the cache can't be written."""
        if COMMIT.fullmatch(revision) or self.pinned(revision) == commit:
            return
        path = self._ref(revision)
        fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(commit)
            fresh.replace(path)

    def complete(self, commit: str) -> bool:
        """Whether all files of a commit are there, each in its size. Reads no file but the manifest."""
        folder = self.folder(commit)
        try:
            with open(folder / MANIFEST, "rb") as file:
                manifest = msgspec.json.decode(file.read(_MAX_MANIFEST_BYTES), type=_Manifest)
            return all((folder / name).stat().st_size == size for name, size in manifest.sizes.items())
        except (OSError, ValueError, RecursionError):
            return False

    def reopen(self, commit: str) -> None:
        """Take back a complete checkpoint that has lost files since, so that they are downloaded anew."""
        folder, partial = self.folder(commit), self.partial(commit)
        if partial.exists():
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.exists():
            (folder / MANIFEST).unlink(missing_ok=True)
            folder.rename(partial)

    def finish(self, commit: str, sizes: Mapping[str, int]) -> None:
        """Make a partial checkpoint, whose files are all verified and on the disk, a complete one."""
        partial = self.partial(commit)
        for path in partial.iterdir():
            if path.name not in sizes:
                path.unlink()
        (partial / MANIFEST).write_bytes(msgspec.json.encode(_Manifest(dict(sizes))))
        _sync(partial)
        partial.rename(self.folder(commit))
        _sync(self.root)

    def discard(self, commit: str) -> None:
        """Give the disk back what a download has written."""
        shutil.rmtree(self.partial(commit), ignore_errors=True)

    def sweep(self, commit: str) -> None:
        """Remove what is left of downloads of other commits that nobody is working on."""
        for partial in self.root.glob("*.partial"):
            other = partial.name.removesuffix(".partial")
            if other != commit and COMMIT.fullmatch(other):
                with self._lock_file(other) as file, contextlib.suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self.discard(other)

    @contextmanager
    def locked(self, commit: str, wait: Callable[[], None]) -> Iterator[None]:
        """Hold a commit's lock; while another process holds it, `wait` is called again and again.

        The kernel gives it back when the process ends, however it ends.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with self._lock_file(commit) as file:
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

    def written(self, commit: str) -> int:
        """Bytes of a commit that are on the disk, complete or not."""
        with contextlib.suppress(OSError):
            return sum(path.stat().st_size for path in self.partial(commit).iterdir())
        return 0

    def _ref(self, revision: str) -> Path:
        return self.root / "refs" / quote(revision, safe="").replace(".", "%2E")

    @contextmanager
    def _lock_file(self, commit: str) -> Iterator[int]:
        # The file stays: removing it would let a second process lock a new one while the first holds the old one.
        number = os.open(self.root / f"{commit}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            yield number
        finally:
            os.close(number)


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
