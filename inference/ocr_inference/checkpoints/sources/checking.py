"""Whether a folder holds a checkpoint that can be read safely, judged without reading its weights.

A folder may be mounted by any user and its content is untrusted: files are regular, small where they have to be, and
lie in the folder. Snapshots of the hub's own cache are links into its blobs, so these may point anywhere in it.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from ocr_inference.checkpoints.sources import faults, selection
from ocr_inference.checkpoints.weights import header

MAX_DEPTH: Final = 64
"""Levels of nesting in a configuration; real ones have about six."""

_MIN_SAFETENSORS = 8 + 2
"""The length of the header, and the shortest header there is."""


@dataclass(frozen=True)
class Findings:
    weights: tuple[str, ...]
    """File names of the shards, in order."""
    remote_code: tuple[str, ...]
    """`file: class` of each `auto_map` entry: code that the checkpoint names and that is not executed."""


def check(folder: Path) -> Findings:
    """Check a checkpoint's files; raises `EngineError` that names file and field."""
    names = _names(folder)
    selection.require(names, f"folder {folder}")
    looked = _Folder(folder)
    remote_code = check_small(folder)
    if selection.SINGLE in names:
        weights: tuple[str, ...] = (selection.SINGLE,)
    else:
        weights = selection.shards(parse_index(looked.read(selection.INDEX)), names)
    for name in weights:
        if looked.size(name) < _MIN_SAFETENSORS:
            raise faults.invalid(name, "", f"{looked.size(name)} bytes are too few for a safetensors file")
    return Findings(weights, remote_code)


def check_small(folder: Path) -> tuple[str, ...]:
    """Check the part that needs no weights; returns what `Findings.remote_code` has."""
    looked = _Folder(folder)
    remote_code: list[str] = []
    for name in selection.supporting(_names(folder)):
        if name in selection.JSON_LIMITS:
            remote_code += _remote_code(name, looked.json_object(name))
        else:
            looked.size(name)
    return tuple(remote_code)


def parse_index(data: bytes) -> Mapping[str, str]:
    try:
        return header.parse_index(data, selection.INDEX)
    except header.BadWeights as error:
        raise faults.invalid("", "", str(error)) from error


def parse_object(data: bytes, name: str) -> dict[str, Any]:
    """Return a JSON object of bounded depth."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise faults.invalid(name, "", f"not JSON that can be read: {faults.shown(str(error))}") from error
    if not isinstance(value, dict):
        raise faults.invalid(name, "", f"is a JSON {_KINDS.get(type(value), 'value')}, not an object")
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [item for container in level for item in _items(container)]
        if not level:
            return value
    raise faults.invalid(name, "", f"is nested more than {MAX_DEPTH} levels deep")


_KINDS: Mapping[type, str] = {list: "array", str: "string", int: "number", float: "number", bool: "boolean"}


def _items(container: Any) -> Iterator[Any]:
    """Return the containers in a container."""
    children = container.values() if isinstance(container, dict) else container
    return (child for child in children if isinstance(child, dict | list))


def _remote_code(name: str, value: Mapping[str, Any]) -> list[str]:
    """Return what `auto_map` names, and the model type of the configuration, which must be a word."""
    if name == selection.CONFIG:
        kind = value.get("model_type")
        if not isinstance(kind, str) or not 0 < len(kind) <= 100:
            raise faults.invalid(name, "model_type", "is missing, or not a short word")
    auto_map = value.get("auto_map", {})
    if not isinstance(auto_map, dict):
        raise faults.invalid(name, "auto_map", "is not an object")
    return [f"{name}: {faults.shown(str(key))}" for key in auto_map]


def _names(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            names = []
            for entry in entries:
                names.append(entry.name)
                if len(names) > selection.MAX_FILES:
                    message = (
                        f"folder {folder} has more than {selection.MAX_FILES} entries: it is not a checkpoint"
                    )
                    raise faults.invalid("", "", message)
    except OSError as error:
        raise faults.unavailable(f"folder {folder} can't be read: {error.strerror}") from error
    return frozenset(names)


class _Folder:
    """Files of an untrusted folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        real = folder.resolve()
        self._roots = (real, *_hub_cache(real))

    def json_object(self, name: str) -> dict[str, Any]:
        return parse_object(self.read(name), name)

    def read(self, name: str) -> bytes:
        """Return the content of a file with a limit."""
        self.size(name)
        limit = selection.limit(name) or 0
        try:
            with open(self._folder / name, "rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            raise faults.invalid(name, "", f"can't be read: {error.strerror}") from error
        if len(data) > limit:
            raise faults.invalid(name, "", f"has more than {limit} bytes")
        return data

    def size(self, name: str) -> int:
        """Return the bytes of a regular file that lies here and isn't larger than files of its name may be."""
        path = self._folder / name
        try:
            real = path.resolve(strict=True)
            found = real.stat()
        except (OSError, RuntimeError) as error:
            raise faults.invalid(name, "", f"can't be read: {error}") from error
        if not any(real.is_relative_to(root) for root in self._roots):
            raise faults.invalid(name, "", f"is a link that leaves {self._folder}")
        if not stat.S_ISREG(found.st_mode):
            raise faults.invalid(name, "", "is not a regular file")
        limit = selection.limit(name)
        if limit is not None and found.st_size > limit:
            raise faults.invalid(name, "", f"has {found.st_size} bytes; {limit} are allowed")
        return found.st_size


def _hub_cache(folder: Path) -> tuple[Path, ...]:
    """Return the folders that links of a snapshot may point to: the repository's blobs and those shared by all.

    The layout is `<cache>/models--<owner>--<name>/snapshots/<commit>`.
    """
    if (
        len(folder.parents) < 3
        or folder.parent.name != "snapshots"
        or not folder.parents[1].name.startswith("models--")
    ):
        return ()
    return (folder.parents[1] / "blobs", folder.parents[2] / "blobs")
