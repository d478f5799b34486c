"""Files in a cache that several servers read and write: they appear whole or not at all, and old ones go.

A file is written under another name, synced and renamed. Its content is verified once, by its checksum, which a mark
beside it records. Writers that were killed leave unlocked parts, which the next writer removes.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PART: Final = ".part"
VERIFIED: Final = ".verified"


class ImageNotWritten(Exception):
    """Image that couldn't be written (disk full, read-only); the message names the reason and the file. The weights are
    unharmed."""


@contextlib.contextmanager
def part(file: Path) -> Iterator[int]:
    """Open a file that takes the name of `file` when the block ends well, and disappears when it doesn't. It's locked,
    which distinguishes it from one whose writer died."""
    path, fd = _locked(file)
    try:
        yield fd
        path.rename(file)
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def sweep(folder: Path) -> None:
    """Remove files of killed writers: they aren't locked."""
    for each in folder.glob(f"*{PART}"):
        with contextlib.suppress(OSError):
            _unlink_unlocked(each)


def evict(written: Path, kept: int) -> None:
    """Remove the files beside this one, of its kind, that nothing has read for longest, until as many as `kept` are
    left with it. One that a reader has locked stays; a reader that has one open isn't disturbed."""

    def last_read(file: Path) -> int:
        with contextlib.suppress(OSError):
            return file.with_suffix(VERIFIED).stat().st_mtime_ns
        with contextlib.suppress(OSError):
            return file.stat().st_mtime_ns
        return 0

    others: list[Path] = []
    with contextlib.suppress(OSError):
        others += [each for each in written.parent.glob(f"*{written.suffix}") if each != written]
    for file in sorted(others, key=last_read, reverse=True)[kept - 1 :]:
        with contextlib.suppress(OSError):
            _unlink_unlocked(file)
            file.with_suffix(VERIFIED).unlink(missing_ok=True)


def discard(file: Path) -> None:
    """Remove a file that is damaged, where the folder can be written; a reader that has it open isn't disturbed."""
    for each in (file, file.with_suffix(VERIFIED)):
        with contextlib.suppress(OSError):
            each.unlink(missing_ok=True)


def write_at(fd: int, data: memoryview, offset: int) -> None:
    """Write all of `data`."""
    at = 0
    while at < len(data):
        with data[at:] as rest:
            at += os.pwrite(fd, rest, offset + at)


def token(fd: int, checksum: str) -> str:
    """Return a mark of a file as it is: a copy, or one written again, has another."""
    status = os.fstat(fd)
    return f"{checksum} {status.st_size} {status.st_mtime_ns}"


def is_verified(file: Path, its_token: str) -> bool:
    """Whether the file was verified as it is."""
    try:
        return file.with_suffix(VERIFIED).read_text()[:1000] == its_token
    except (OSError, ValueError):
        return False


def mark_verified(file: Path, its_token: str) -> None:
    """Note that the file is verified; in a read-only folder each reader verifies for itself."""
    with contextlib.suppress(OSError):
        mark = file.with_name(f"{file.stem}.{secrets.token_hex(8)}{VERIFIED}{PART}")
        mark.write_text(its_token)
        mark.replace(file.with_suffix(VERIFIED))


def mark_read(file: Path) -> None:
    """Note that the file is read now, for `evict`."""
    with contextlib.suppress(OSError):
        os.utime(file.with_suffix(VERIFIED))


def free(folder: Path) -> str:
    """Say how much is free in a folder."""
    try:
        return f"{shutil.disk_usage(folder).free} bytes are free in {folder}"
    except OSError:
        return f"folder {folder} can't be looked at"


def _unlink_unlocked(file: Path) -> None:
    """Remove a file that isn't locked; raises `OSError`."""
    # Over NFS an exclusive lock needs a file that is open for writing: flock(2).
    mode = stat.S_IMODE(file.stat().st_mode)
    file.chmod(mode | stat.S_IWUSR)
    try:
        fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    finally:
        file.chmod(mode)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.unlink()
    finally:
        os.close(fd)


def _locked(file: Path) -> tuple[Path, int]:
    """Create a new file beside `file`, that no sweep removes."""
    while True:
        path = file.with_name(f"{file.stem}.{secrets.token_hex(8)}{PART}")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return path, fd
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(fd)
            raise
        os.close(fd)  # swept between being made and being locked
