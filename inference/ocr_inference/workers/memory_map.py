"""What this process has in memory, by the kernel's list of its mappings, and what needn't be there while it waits.

Pure: lists in, lists out. `swap_file` carries it out.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_HEAD: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) [0-9a-f]+ \S+ \d+ *(.*)")
_SMALLEST: Final = 64 << 10
"""Less memory of its own in one mapping isn't worth a mapping of the file."""
_PLAIN_FLAGS: Final = frozenset(("rd", "wr", "ex", "mr", "mw", "me", "ac", "sd", "nr", "hg", "nh"))
"""Traits of memory that a mapped file has as well, or that only say how it is filled. All others mean that a library
relies on more: locked memory, memory that a fork must not get or gets as zeros (random generators), stacks."""
NO_RESERVE: Final = "nr"


@dataclass(frozen=True)
class Mapping:
    """Range of addresses, as `/proc/self/smaps` describes it."""

    start: int
    end: int
    perms: str
    """Such as `rw-p`."""
    name: str
    """File, or a name like `[heap]`; empty for anonymous memory."""
    own_bytes: int
    """Memory that only this process and its forks have: written, so not what a file has."""
    resident_bytes: int
    swapped_bytes: int
    flags: frozenset[str]

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def is_file(self) -> bool:
        return self.name.startswith("/")


def parse(smaps: str) -> list[Mapping]:
    """Read the text of `/proc/self/smaps`; a mapping whose description isn't whole has no flags."""
    found: list[Mapping] = []
    head: re.Match[str] | None = None
    fields: dict[str, str] = {}
    for line in [*smaps.splitlines(), "0-0 ---p 0 0 0"]:
        if (begins := _HEAD.fullmatch(line)) is None:
            key, _, value = line.partition(":")
            fields[key] = value
            continue
        if head is not None:
            found.append(_mapping(head, fields))
        head, fields = begins, {}
    return found


def _mapping(head: re.Match[str], fields: dict[str, str]) -> Mapping:
    own, resident, swapped = (_bytes(fields, key) for key in ("Anonymous", "Rss", "Swap"))
    return Mapping(
        start=int(head[1], 16),
        end=int(head[2], 16),
        perms=head[3],
        name=head[4],
        own_bytes=own,
        resident_bytes=resident,
        swapped_bytes=swapped,
        flags=frozenset(fields.get("VmFlags", "").split()),
    )


def _bytes(fields: dict[str, str], key: str) -> int:
    words = fields.get(key, "0 kB").split()
    return int(words[0]) << 10 if len(words) == 2 else 0


def to_swap_out(mappings: Iterable[Mapping]) -> list[Mapping]:
    """Return mappings whose memory a file can take over: of this process's own, and of no special kind.

    Variables of libraries (files that may be written to) stay: they are few, and the C library's are among them.
    """
    return [
        each
        for each in mappings
        if each.own_bytes >= _SMALLEST
        and each.perms[0] == "r"
        and each.perms[3] == "p"
        and each.flags
        and each.flags <= _PLAIN_FLAGS
        and (("w" not in each.perms) if each.is_file else _is_anonymous(each.name))
    ]


def _is_anonymous(name: str) -> bool:
    return name in ("", "[heap]") or name.startswith("[anon:")


def to_drop(mappings: Iterable[Mapping]) -> list[Mapping]:
    """Return mappings of files of which nothing differs from the file or can: what is dropped is read from it again."""
    return [
        each
        for each in mappings
        if each.is_file
        and each.perms[0] == "r"
        and each.perms[1] == "-"
        and each.perms[3] == "p"
        and each.resident_bytes
        and not each.own_bytes
        and not each.swapped_bytes
    ]


def to_page_out(mappings: Iterable[Mapping]) -> list[Mapping]:
    """Return mappings of files that this process may have written to, in memory of its own: which of their pages are
    still the file's only the kernel can tell."""
    return [
        each
        for each in mappings
        if each.is_file
        and each.perms[0] == "r"
        and each.perms[3] == "p"
        and each.resident_bytes > each.own_bytes
        and ("w" in each.perms or each.own_bytes)
    ]


def without(mapping: Mapping, start: int, end: int) -> list[tuple[int, int]]:
    """Return the ranges of a mapping that are outside of `start` to `end`."""
    ranges = ((mapping.start, min(mapping.end, start)), (max(mapping.start, end), mapping.end))
    return [(low, high) for low, high in ranges if low < high]


DISKS: Final = frozenset(("ext4", "ext3", "ext2", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "overlay"))
"""File systems of local disks. In memory nothing would be saved, and over a network a server that is gone would take
the processes along."""


def file_system(mountinfo: str, folder: str) -> str:
    """Return the kind of the file system that has `folder`, an absolute path without links, by the text of
    `/proc/self/mountinfo`; empty where that doesn't say."""
    best, kind = "", ""
    for line in mountinfo.splitlines():
        mounted, _, described = line.partition(" - ")
        words: Sequence[str] = mounted.split()
        if len(words) < 5 or not described:  # the fifth is where it is mounted
            continue
        point = words[4].replace("\\040", " ")
        inside = folder == point or folder.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # the last one that is mounted at a place is the one seen
            best, kind = point, described.split()[0]
    return kind
