"""Tuples in order, as a value: a change makes a new one, which shares with the old one all that didn't change.

They are kept in chunks, and a change copies one chunk and the list of chunks: with thousands of tuples, about a
hundred references. Python's own tuple copies all of them, and its sorted containers change in place.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, Self, TypeVar

CHUNK: Final = 64
"""Most tuples of a chunk; what is copied is least where this is about the number of chunks."""

T = TypeVar("T", bound=tuple[Any, ...])


@dataclass(frozen=True, slots=True)
class SortedTuples(Generic[T]):
    """Tuples in order, none of them twice. What tells them apart stands first in them and can be compared."""

    _chunks: tuple[tuple[T, ...], ...] = ()
    """None of them empty."""
    _size: int = 0

    @classmethod
    def of(cls, items: Iterable[T]) -> Self:
        ordered = sorted(items)
        chunks = (tuple(ordered[at : at + CHUNK // 2]) for at in range(0, len(ordered), CHUNK // 2))
        return cls(tuple(chunks), len(ordered))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        for chunk in self._chunks:
            yield from chunk

    def add(self, item: T) -> Self:
        at = self._chunk_of(item)
        chunk = self._chunks[at] if self._chunks else ()
        place = bisect_left(chunk, item)
        grown = (*chunk[:place], item, *chunk[place:])
        half = len(grown) // 2
        parts = (grown,) if len(grown) <= CHUNK else (grown[:half], grown[half:])
        return self._replaced(at, at + 1, parts, self._size + 1)

    def remove(self, item: T) -> Self:
        """Return them without `item`, which is one of them."""
        begin = self._chunk_of(item)
        end, chunk = begin + 1, self._chunks[begin]
        place = bisect_left(chunk, item)
        left = chunk[:place] + chunk[place + 1 :]
        # Join small neighbours: else many removals would leave as many chunks as there were tuples.
        if end < len(self._chunks) and len(left) + len(self._chunks[end]) <= CHUNK // 2:
            left, end = left + self._chunks[end], end + 1
        if begin and len(left) + len(self._chunks[begin - 1]) <= CHUNK // 2:
            left, begin = self._chunks[begin - 1] + left, begin - 1
        return self._replaced(begin, end, (left,) if left else (), self._size - 1)

    def since(self, start: tuple[Any, ...]) -> Iterator[T]:
        """Yield those that aren't before `start`, which may be the beginning of a tuple."""
        at = self._chunk_of(start)
        for number in range(at, len(self._chunks)):
            chunk = self._chunks[number]
            yield from chunk[bisect_left(chunk, start) :] if number == at else chunk

    def _chunk_of(self, item: tuple[Any, ...]) -> int:
        """Return the number of the chunk in which `item` has its place."""
        return max(0, bisect_right(self._chunks, item, key=_first) - 1)

    def _replaced(self, begin: int, end: int, parts: tuple[tuple[T, ...], ...], size: int) -> Self:
        return type(self)((*self._chunks[:begin], *parts, *self._chunks[end:]), size)


def _first(chunk: tuple[T, ...]) -> T:
    return chunk[0]
