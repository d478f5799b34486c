"""Number of pages that a PDF says of itself, where it is too small.

PDFium believes a page tree's `Count`, and reaches no page behind it. A page that isn't there (`null` among the `Kids`)
isn't counted, yet takes a place. Other readers go by the `Kids`. Trees that are compressed stay as they are.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

MAX_NODES: Final = 10_000
"""Nodes of trees that are looked at; each has a number of pages."""
_COUNT: Final = re.compile(rb"[ \t\r\n]*([0-9]{1,7})(?![0-9])")
_KIDS: Final = re.compile(rb"/Kids[ \t\r\n]*\[([^\]]*)\]")
_KID: Final = re.compile(rb"[0-9]+[ \t\r\n]+[0-9]+[ \t\r\n]+R|null")
_NEAR_BYTES: Final = 1 << 16
"""Bytes before and behind `Count` within which a node's `Kids` are looked for: 4,000 of them take as many."""
_PIECE_BYTES: Final = 1 << 22


@dataclass(frozen=True)
class Node:
    """Node of a page tree."""

    at: int
    """Where the number of its `Count` is."""
    digits: int
    count: int
    kids: int
    """How many nodes and pages are right below it."""


def nodes(fd: int) -> Iterator[Node]:
    """Yield the nodes of a file that aren't compressed; older versions of them, too."""
    found, at, size = 0, 0, os.fstat(fd).st_size
    while at < size and found < MAX_NODES:
        # A piece at a time, so that a file of gigabytes isn't in memory; what lies around is read with it.
        before = min(at, _NEAR_BYTES)
        data = os.pread(fd, before + _PIECE_BYTES + _NEAR_BYTES, at - before)
        for node in _nodes(data, before, before + _PIECE_BYTES):
            found += 1
            yield replace(node, at=node.at + at - before)
        at += _PIECE_BYTES


def _nodes(data: bytes, begin: int, end: int) -> Iterator[Node]:
    """Yield the nodes whose `Count` begins in that part."""
    at = begin - 1
    while 0 <= (at := data.find(b"/Count", at + 1)) < end:
        number = _COUNT.match(data, at + len(b"/Count"))
        if number is not None and (kids := _kids(data, at, number.end())) is not None:
            yield Node(number.start(1), len(number[1]), int(number[1]), kids)


def hidden(found: Sequence[Node], count: int) -> int:
    """Return how many pages at least a PDF has that aren't among its `count` pages, as far as it shows: each of a
    node's kids is at least one."""
    return max([0, *(node.kids - node.count for node in found if node.count <= count)])


def raised(found: Sequence[Node], count: int, to: int) -> list[tuple[int, bytes]]:
    """Return places and bytes to write there, so that a PDF with `count` pages says that it has `to`, or as many as
    its number has digits for."""
    return [
        (node.at, b"%0*d" % (node.digits, min(to, 10**node.digits - 1)))
        for node in found
        if node.count == count
    ]


def _kids(data: bytes, start: int, end: int) -> int | None:
    before = data[max(0, start - _NEAR_BYTES) : start].rpartition(b"obj")[2]
    after = data[end : end + _NEAR_BYTES].partition(b"endobj")[0]
    found = _KIDS.search(before) or _KIDS.search(after)
    return None if found is None else sum(1 for _ in _KID.finditer(found[1]))
