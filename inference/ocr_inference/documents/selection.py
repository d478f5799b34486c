"""Which pages of a document are requested: `1-3,7`, `5-`, or all."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Self

from ocr_inference.errors import ApiError

MAX_CHARACTERS: Final = 1000
MAX_PAGE: Final = 1_000_000
"""Highest number that is understood; no document has so many pages."""
_RANGE: Final = re.compile(r"([0-9]{1,7})?[ ]*(-)?[ ]*([0-9]{1,7})?", re.ASCII)


@dataclass(frozen=True)
class Selection:
    """Pages of a document, by number from 1: ranges with both ends, of which the last may be open (None)."""

    ranges: tuple[tuple[int, int | None], ...]
    param: str = "pages"
    """What errors name."""
    first: int = field(default=1, compare=False)
    """Number of the first page, as the client counts: it changes what errors say, and no choice."""

    @classmethod
    def parse(cls, text: str, param: str = "pages") -> Self:
        """Parse `1-3,7`: numbers from 1 and ranges, apart by commas; `5-` is from 5 to the end, `-3` from 1. Raises 422
        that names `param`."""
        if len(text) > MAX_CHARACTERS:
            raise _invalid(f"is longer than {MAX_CHARACTERS} characters", param)
        return cls(tuple(_range(part, param) for part in text.split(",")), param)

    @classmethod
    def of_indices(cls, indices: Iterable[int], param: str = "pages") -> Self:
        """Return the selection of pages that are counted from 0, in errors, too; raises 422 that names `param`."""
        found = tuple(indices)
        if not all(0 <= index < MAX_PAGE for index in found):
            raise _invalid(f"has numbers that aren't from 0 to {MAX_PAGE - 1}", param)
        return cls(tuple((index + 1, index + 1) for index in found), param, first=0)

    def indices(self, count: int, most: int) -> tuple[int, ...]:
        """Return the pages of a document with `count` pages, from 0, in its order, each once.

        A range that ends behind the last page ends there; one that begins there is refused with 422, as are more than
        `most` pages, with 413.
        """
        chosen: set[int] = set()
        for first, last in self.ranges:
            if first > count:
                pages = f"{count} page{'' if count == 1 else 's'}"
                counted = "" if self.first else ", counted from 0"
                raise ApiError(
                    422,
                    "no_such_page",
                    f"there is no page {first - 1 + self.first}: the document has {pages}{counted}",
                    param=self.param,
                )
            # No more than can be refused: a range may be of a million.
            chosen.update(range(first - 1, min(count, last or count, first + most)))
        if len(chosen) > most:
            raise ApiError(
                413,
                "too_many_pages",
                f"the document has {count} pages, and at most {most} are read at a time: choose some with `pages`, "
                f"such as {self.first}-{most - 1 + self.first}",
                param=self.param,
            )
        return tuple(sorted(chosen))


ALL: Final = Selection(((1, None),))


def _range(part: str, param: str) -> tuple[int, int | None]:
    match = _RANGE.fullmatch(part.strip())
    if match is None or not (match[1] or match[3]):
        raise _invalid(f"has {part.strip()[:40]!r}", param)
    first = int(match[1] or 1)
    if match[2] is None:
        last: int | None = first
    else:
        last = int(match[3]) if match[3] else None
    if first < 1 or max(first, last or first) > MAX_PAGE or (last is not None and last < first):
        raise _invalid(f"has {part.strip()[:40]!r}", param)
    return first, last


def _invalid(why: str, param: str) -> ApiError:
    return ApiError(
        422,
        "invalid_value",
        f"{param} {why}; write numbers from 1 and ranges, such as 1-3,7 or 5-",
        param=param,
    )
