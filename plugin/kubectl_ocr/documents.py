"""Files that `read` takes and writes: pictures and documents of a command line, and where their texts go."""

import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubectl_ocr import text
from kubectl_ocr.errors import Exit, Failure

MAX_BYTES: Final = 256 * 2**20
"""The server's own limit (`spec.server.limits.maxUploadBytes`) is lower and says so."""
MAX_FILES: Final = 10_000
"""Of all folders together."""
STDIN: Final = "-"
SUFFIXES: Final = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".pdf"},
)
"""Names of what is read in a folder; a file that is named itself may have any."""
_DOCUMENTS: Final = (b"%PDF-", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of PDF, TIFF and BigTIFF: what may have many pages."""
_SUFFIX: Final = {"markdown": ".md", "text": ".txt", "json": ".json"}


@dataclass(frozen=True)
class Document:
    path: Path | None
    """None: standard input."""
    relative: Path
    """Name below the folder that was named, for messages and for what is written."""

    @property
    def name(self) -> str:
        """The name for people: printable, in one line."""
        return text.clean(str(self.relative), 200) or "document"

    @property
    def filename(self) -> str:
        """The name as it is sent."""
        return text.clean(self.relative.name, 200) or "document"

    def check(self) -> None:
        """Raise `Failure` where it is a file that can't be opened or has nothing in it."""
        if self.path is not None:
            with _explained(self.path), self.path.open("rb") as opened:
                found = os.fstat(opened.fileno())
            if stat.S_ISREG(found.st_mode) and not found.st_size:
                raise Failure(f"{text.clean(str(self.path), 400)} is empty", Exit.USAGE)

    def was_read(self, target: Path) -> bool:
        """Return whether there is a result that is younger than the document."""
        try:
            return self.path is not None and target.stat().st_mtime >= self.path.stat().st_mtime
        except OSError:
            return False

    def read(self) -> bytes:
        """Return the document. Raises `Failure`."""
        shown = self.name if self.path is None else text.clean(str(self.path), 400)
        if self.path is None:
            found = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with _explained(self.path), self.path.open("rb") as opened:
                found = opened.read(MAX_BYTES + 1)
        if not found:
            raise Failure(f"{shown} is empty", Exit.USAGE)
        if len(found) > MAX_BYTES:
            raise Failure(f"{shown} has more than {MAX_BYTES >> 20} MiB", Exit.USAGE)
        return found


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        shown = text.clean(str(path), 400)
        raise Failure(f"{shown} can't be read: {error.strerror or error}", Exit.USAGE) from None


def listed(words: Sequence[str]) -> list[Document]:
    """Return the documents of a command line: files as they are named, folders with all that they contain, by name.

    Raises `Failure` for a folder without any.
    """
    found: list[Document] = []
    for word in words:
        if word == STDIN:
            found.append(Document(None, Path("stdin")))
            continue
        path = Path(word)
        if path.is_dir():
            with _explained(path), os.scandir(path):
                pass
            inside = [Document(each, each.relative_to(path)) for each in _walk(path)]
            if not inside:
                known = ", ".join(sorted(SUFFIXES))
                raise Failure(f"{text.clean(word, 400)} has no document ({known})", Exit.USAGE)
            found += inside
        else:
            found.append(Document(path, Path(path.name)))
    if len(found) > MAX_FILES:
        raise Failure(f"there are more than {MAX_FILES} documents: name some of them", Exit.USAGE)
    if [each.path for each in found].count(None) > 1:
        raise Failure("standard input can be read once", Exit.USAGE)
    return found


def has_pages(content: bytes) -> bool:
    """Return whether a document may have many pages, and so is read by a job."""
    # A PDF may begin with up to 1 KiB of something else, and readers accept it.
    return content.startswith(_DOCUMENTS) or b"%PDF-" in content[:1024]


def targets(documents: Sequence[Document], folder: Path, format_: str) -> dict[Document, Path]:
    """Return where each document's text goes. Raises `Failure` for two that would go to one place."""
    suffix = _SUFFIX.get(format_, f".{format_}")
    found: dict[Document, Path] = {}
    taken: dict[Path, Document] = {}
    for each in documents:
        path = folder / each.relative.with_name(each.relative.name + suffix)
        if path in taken:
            raise Failure(
                f"{each.name} is there twice, and both would be written to {text.clean(str(path), 400)}",
                Exit.USAGE,
            )
        taken[path] = each
        found[each] = path
    return found


def write(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all. Raises `Failure`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".kubectl-ocr-")
        try:
            with os.fdopen(handle, "wb") as opened:
                opened.write(content)
            os.chmod(partial, 0o666 & ~_umask())
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(partial)
            raise
    except OSError as error:
        raise Failure(
            f"{text.clean(str(path), 400)} can't be written: {error.strerror or error}", Exit.USAGE
        ) from None


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the documents below a folder by name, and folders that can't be listed: opening one says why. Hidden ones,
    links to folders, pipes and devices are passed over."""
    count, closed = 0, list[Path]()
    for where, folders, files in os.walk(folder, onerror=lambda error: closed.append(Path(error.filename))):
        yield from closed
        closed.clear()
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for name in sorted(files):
            path = Path(where) / name
            if not name.startswith(".") and path.suffix.lower() in SUFFIXES and not _waits(path):
                yield path
                if (count := count + 1) > MAX_FILES:
                    return
    yield from closed


def _waits(path: Path) -> bool:
    """Return whether it is no file, so that reading it may have no end."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False  # it is said when it is read
