"""A file that isn't complete yet: its first bytes on the disk, and their hash in memory."""

import hashlib
import os
from pathlib import Path
from typing import Final, Self

_PIECE: Final = 1 << 20


class Part:
    """File that is being downloaded, continued from what is there. A context manager: leaving closes and keeps it."""

    def __init__(self, path: Path, size: int, digest: str) -> None:
        """Open the file; `size` and `digest` (`sha256:…` or `git:…`) are those of the complete one."""
        self._path = path
        self._expected_size = size
        self._expected = digest
        self._hash = _hash(size, digest)
        self.size = 0
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 - closed by `__exit__`
        try:
            self._file.seek(0)
            while piece := self._file.read(_PIECE):
                self._hash.update(piece)
                self.size += len(piece)
            if self.size > size:
                self.clear()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        """Append data. Raises `OSError`; what fits is kept then."""
        view = memoryview(data)
        while view:
            count = self._file.write(view)
            self._hash.update(view[:count])
            self.size += count
            view = view[count:]

    def clear(self) -> None:
        """Remove what was written, to begin anew."""
        self._file.truncate(0)
        self._hash = _hash(self._expected_size, self._expected)
        self.size = 0

    def verified(self) -> bool:
        return self.size == self._expected_size and self._expected.endswith(f":{self._hash.hexdigest()}")

    def keep(self, path: Path) -> None:
        """Flush the file to the disk, then give it its name."""
        os.fsync(self._file.fileno())
        self._path.replace(path)


def verified(path: Path, size: int, digest: str) -> bool:
    """Return whether a file, if there is one, has this size and digest. Reads it whole."""
    found = _hash(size, digest)
    try:
        if path.stat().st_size != size:
            return False
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                found.update(piece)
    except FileNotFoundError:
        return False
    return digest.endswith(f":{found.hexdigest()}")


def _hash(size: int, digest: str) -> "hashlib._Hash":
    if digest.startswith("sha256:"):
        return hashlib.sha256()
    # Git's own, with a header before the content: a hub lists nothing else for small files.
    return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
