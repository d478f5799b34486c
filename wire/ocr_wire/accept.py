"""The formats of metrics that a request accepts, in the order in which it prefers them.

Prometheus' client library picks a format by such a header, but believes it: it answers any version under that version's
name, raises for one that isn't numbers, and doesn't look at preferences.
"""

import re
from typing import Final

MAX_RANGES: Final = 32
"""Media ranges read of a header; Prometheus sends 5."""

_RANGE: Final = re.compile(
    r"(?:application/openmetrics-text|text/plain)"
    r"(?: ?; ?(?:version=1\.0\.0|escaping=[a-z0-9-]{1,20}|charset=utf-8|q=(?P<q>1(?:\.0{1,3})?|0(?:\.[0-9]{1,3})?)))*"
)


def metrics(header: str) -> str:
    """Return the media ranges of a header `Accept` that name a format known here, the preferred one first; empty where
    it names none. `text/plain` of an older version is what an empty one means anyway."""
    parts = (_RANGE.fullmatch(part.strip()) for part in header.split(",")[:MAX_RANGES])
    found = [(float(match["q"] or 1), match[0]) for match in parts if match]
    # A stable sort: what is preferred equally stays in order.
    return ",".join(text for preference, text in sorted(found, key=lambda each: -each[0]) if preference > 0)
