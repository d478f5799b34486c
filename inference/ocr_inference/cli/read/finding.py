"""Finds documents: files, folders and what is in them, patterns, standard input.

In folders hidden files and folders are left out, as are links to folders, so that no loop and nothing outside is walked
into: a link that is named is followed. Every file is opened for its first bytes, since names may be wrong.
"""

import os
import stat
from collections.abc import Callable, Collection, Sequence
from typing import Final

from ocr_inference.cli.read import planning
from ocr_inference.cli.read.planning import STDIN, Found, Inventory
from ocr_inference.documents import headers, kinds

MAX_FILES: Final = 1_000_000


class TooMany(ValueError):
    """More files than are read in a run."""


def find(words: Sequence[str], leave_out: Collection[str] = ()) -> Inventory:
    """Return all documents that are meant. `leave_out` are absolute paths of files and folders that aren't looked at,
    such as results. Raises `TooMany`."""
    inventory = Inventory()
    for word in words:
        if word == STDIN:
            inventory.found.append(Found(STDIN, "standard input", STDIN))
        elif os.path.isdir(word):
            _walk(inventory, word, leave_out, lambda _: True)
        elif planning.is_pattern(word) and not os.path.lexists(word):
            _match(inventory, word, leave_out)
        else:
            path = os.path.abspath(word)
            inventory.found.append(Found(path, word, os.path.dirname(path)))
        if len(inventory.found) > MAX_FILES:
            raise TooMany(f"more than {MAX_FILES} documents: read some of the folders at a time")
    return inventory


def _match(inventory: Inventory, pattern: str, leave_out: Collection[str]) -> None:
    base = planning.base(pattern)
    rest = pattern.removeprefix("./") if base == "." else pattern.removeprefix(base).lstrip("/")
    wanted = [part for part in rest.split("/") if part]
    before = len(inventory.found), len(inventory.problems)
    skipped = inventory.skipped.copy()
    _walk(
        inventory,
        base,
        leave_out,
        lambda parts: planning.is_wanted(parts, wanted),
        most=None if "**" in wanted else len(wanted),
    )
    if before == (len(inventory.found), len(inventory.problems)) and skipped == inventory.skipped:
        inventory.problems.append((pattern, "no file matches it"))


def _walk(
    inventory: Inventory,
    named: str,
    leave_out: Collection[str],
    wanted: Callable[[tuple[str, ...]], bool],
    most: int | None = None,
) -> None:
    """Add the documents below a folder, in the order of their names; `most` is how deep, in parts of a path."""
    root = os.path.abspath(named)
    todo: list[tuple[str, ...]] = [()]
    while todo:
        parts = todo.pop()
        here = os.path.join(root, *parts)
        try:
            with os.scandir(here) as listed:
                entries = sorted(listed, key=lambda each: each.name)
        except OSError as error:
            inventory.problems.append((_shown(named, parts), f"can't list it: {error.strerror}"))
            continue
        folders = []
        for entry in entries:
            inside = (*parts, entry.name)
            if planning.is_hidden(entry.name) or entry.path in leave_out:
                continue
            if _is_folder(entry):
                if entry.is_symlink():
                    if wanted(inside):
                        inventory.skipped["links to folders"] += 1
                elif most is None or len(inside) < most or wanted(inside):
                    folders.append(inside)
            elif wanted(inside):
                _add(inventory, entry, _shown(named, inside), root)
                if len(inventory.found) > MAX_FILES:
                    return
        todo += reversed(folders)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as of a link that leads to itself
        return False


def _add(inventory: Inventory, entry: "os.DirEntry[str]", shown: str, root: str) -> None:
    try:
        if not stat.S_ISREG(entry.stat().st_mode):
            inventory.skipped["special files"] += 1
            return
        head = _head(entry.path)
    except OSError:
        head = b""  # what can't be read is reported when it is read, if its name is that of a document
    if planning.is_document(entry.name, is_known=is_known(head)):
        inventory.found.append(Found(entry.path, shown, root))
    else:
        inventory.skipped[planning.suffix(entry.name)[:16] or "without suffix"] += 1


def is_known(head: bytes) -> bool:
    """Return whether a file that begins so is read."""
    return kinds.of_head(head) is not None or head.startswith(headers.BEGINNINGS)


def _head(path: str) -> bytes:
    # A file may be replaced by a pipe that has no writer.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(file, kinds.HEAD_BYTES)
    finally:
        os.close(file)


def _shown(named: str, parts: Sequence[str]) -> str:
    return os.path.join(named, *parts) if named != "." else os.path.join(*parts) if parts else named
