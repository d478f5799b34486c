"""Notes of the results in a folder: lines of JSON in a hidden file, the newest last. Several runs may note at a time.

A result is noted twice: with its own digest before it is there, and without it once it is. A run that was killed
between the two has left a file which is known by its digest then, not a foreign one.
"""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from errno import EFBIG, ENOSPC
from pathlib import Path
from typing import Final

import msgspec
from msgspec import structs

from ocr_inference.cli.read.resuming import Record

NAME: Final = ".ocr-inference.jsonl"
MAX_BYTES: Final = 1 << 30


class Notes:
    def __init__(self, folder: Path) -> None:
        """Read the notes of a folder; raises `OSError` where they can't be read."""
        self._folder = folder
        self._file = folder / NAME
        self._read_to = 0
        self._records: dict[str, Record] = {}
        self._begun: dict[str, dict[str, Record]] = {}
        """By name and digest of results: those that may be there."""
        self._refresh()

    def outputs(self) -> Iterable[str]:
        """Return the paths of all results below the folder."""
        return self._records.keys() | self._begun.keys()

    def record(self, output: str) -> Record | None:
        """Return the note of a result, also of another run."""
        with contextlib.suppress(OSError):  # what was known is known
            self._refresh()
        if (begun := self._begun.get(output)) and (found := begun.get(_digest(self._folder / output))):
            return found
        return self._records.get(output)

    def begin(self, record: Record, content: bytes) -> None:
        """Note a result that is about to be there; raises `OSError`."""
        self._add(structs.replace(record, begun=hashlib.sha256(content).hexdigest()))

    def end(self, record: Record) -> None:
        """Note a result that is there; raises `OSError`."""
        self._add(record)

    def _add(self, record: Record) -> None:
        # Names of files may be no UTF-8, which msgspec neither writes nor reads.
        line = json.dumps(msgspec.to_builtins(record)).encode() + b"\n"
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        file = os.open(self._file, flags, 0o666)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = b"\n" + line  # after one that was cut
            # One write of a line, between those of other runs.
            if os.write(file, line) < len(line):
                raise OSError(ENOSPC, os.strerror(ENOSPC), str(self._file))
        finally:
            os.close(file)

    def _refresh(self) -> None:
        try:
            with self._file.open("rb") as file:
                if os.fstat(file.fileno()).st_size > MAX_BYTES:
                    raise OSError(EFBIG, f"larger than {MAX_BYTES} bytes", str(self._file))
                file.seek(self._read_to)
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # it is being written, or was cut
                    self._read_to += len(line)
                    # A line that was cut, or of a newer version: its document is read again.
                    with contextlib.suppress(ValueError, RecursionError):
                        self._take(msgspec.convert(json.loads(line), Record))
        except FileNotFoundError:
            return

    def _take(self, record: Record) -> None:
        if record.begun:
            self._begun.setdefault(record.output, {})[record.begun] = structs.replace(record, begun="")
        else:
            self._records[record.output] = record
            self._begun.pop(record.output, None)


def _digest(file: Path) -> str:
    """Return the SHA-256 of a file; empty where there is none."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return ""
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return ""
