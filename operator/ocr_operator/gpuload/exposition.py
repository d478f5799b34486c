"""Lines of an exporter's text as samples, bounded in bytes and in time.

The exporter may be hostile, so a line costs time in proportion to its length, whatever is in it, and one that can't be
read costs only itself. The parser of prometheus_client gives up a whole text for one bad line, and takes 0.9 ms for a
line of 2 KB, seconds for the bytes that one answer may have. This one takes a fifth of that; a test compares what they
read.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

MAX_BYTES: Final = 8 * 1024 * 1024
"""Read of one scrape; an exporter with 16 GPUs, MIG and every field on writes below 1 MiB."""
MAX_LINE: Final = 4096
MAX_SAMPLES: Final = 4096
"""Lines of interest read of one scrape: 16 GPUs x 7 instances x 7 metrics would not come near."""

Sample = tuple[str, Mapping[str, str], float]
"""Name of the metric, labels, value."""

_LABEL: Final = re.compile(
    r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"([^"\\]*+(?:\\.[^"\\]*+)*+)"[ \t]*(,?)'
)
_VALUE: Final = re.compile(r"[ \t]*([^ \t]{1,64})(?:[ \t]+-?[0-9]{1,20})?[ \t]*")
"""A number and, if there is one, the time of the sample, which isn't believed."""
_ESCAPE: Final = re.compile(r"\\(.)")
_ESCAPED: Final = {"n": "\n", "\\": "\\", '"': '"'}


def samples(text: str | bytes, names: Collection[str]) -> Iterator[Sample]:
    """Yield the samples of metrics with one of those names, as they come. Never raises."""
    plain = text[:MAX_BYTES].decode(errors="replace") if isinstance(text, bytes) else text[:MAX_BYTES]
    any_of = "|".join(sorted(map(re.escape, names)))
    line = re.compile(rf"^({any_of})(?=[{{ \t])([^\n]{{0,{MAX_LINE}}})$", re.MULTILINE)
    for count, found in enumerate(line.finditer(plain)):
        if count >= MAX_SAMPLES:
            return
        if (read := _read(found[2].rstrip("\r"))) is not None:
            yield found[1], *read


def _read(rest: str) -> tuple[Mapping[str, str], float] | None:
    """Labels and value of what follows the name; None for what is no sample."""
    labels: dict[str, str] = {}
    at = len(rest) - len(rest.lstrip(" \t"))
    if rest[at : at + 1] == "{":
        end = _labels(rest, at + 1, labels)
        if end is None:
            return None
        at = end
    value = _VALUE.fullmatch(rest, at)
    try:
        return (labels, float(value[1])) if value and "_" not in value[1] else None
    except ValueError:
        return None


def _labels(rest: str, at: int, labels: dict[str, str]) -> int | None:
    """Read labels; the place behind the closing brace. None without one, or for a label that is there twice."""
    more = True
    while more and (found := _LABEL.match(rest, at)):
        raw = found[2]
        if found[1] in labels:
            return None
        labels[found[1]] = _ESCAPE.sub(_unescape, raw) if "\\" in raw else raw
        at, more = found.end(), bool(found[3])
    end = rest[at:].lstrip(" \t")
    return len(rest) - len(end) + 1 if end.startswith("}") else None


def _unescape(found: re.Match[str]) -> str:
    return _ESCAPED.get(found[1], found[0])
