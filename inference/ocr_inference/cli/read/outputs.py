"""Writes results into a folder: a file is there as a whole or not at all, and is noted."""

import contextlib
import os
import secrets
from errno import EEXIST
from pathlib import Path

from ocr_inference.cli.read.notes import Notes
from ocr_inference.cli.read.resuming import Record


class Outputs:
    """Folder of results; made when the first one is written."""

    def __init__(self, folder: Path) -> None:
        """Read the notes; raises `OSError` where they can't be read, or the folder is none."""
        self.folder = folder.absolute()
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(20, "it isn't a folder", str(folder))
        self._notes = Notes(self.folder)

    def paths(self) -> frozenset[str]:
        """Return the absolute paths of all results that were noted: they are no documents to be read."""
        return frozenset(str(self.folder / each) for each in self._notes.outputs())

    def record(self, output: str) -> Record | None:
        """Return the note of a result, also of another run."""
        return self._notes.record(output)

    def is_there(self, output: str) -> bool:
        return os.path.lexists(self.folder / output)

    def source(self, path: str) -> str:
        """Return a document's path as it is noted: from the folder, so that both can be moved together."""
        return path if path == "-" else os.path.relpath(path, self.folder)

    def write(self, record: Record, content: bytes, *, may_replace: bool) -> None:
        """Write a result and note it; without `may_replace` only where there is no file of that name. Raises `OSError`;
        what was there is there then."""
        target = self.folder / record.output
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.parent / f".{secrets.token_hex(8)}.part"
        try:
            with open(unfinished, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            self._notes.begin(record, content)
            if may_replace or not _linked(unfinished, target):
                unfinished.replace(target)
            else:
                unfinished.unlink()
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        self._notes.end(record)


def _linked(file: Path, target: Path) -> bool:
    """Give a file another name, which nothing has; returns whether the file system can do that. Raises
    `FileExistsError`."""
    try:
        os.link(file, target)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(target):
            raise FileExistsError(EEXIST, os.strerror(EEXIST), str(target)) from None
        return False
    return True
