"""The live settings, one row each: what changes without a new pod.

Everything about them follows from `LIVE` or is compared with it: the types of the resource and of the policies, the
definitions, the server's FILE and its defaults, the values on the wire, tables of the documentation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

NEVER: Final = -1
"""A timeout that never runs out."""
MAX_SECONDS: Final = 31_536_000
"""One year: the bound of every duration, so that no sum of them overflows and a typo in the unit is found."""

LogLevel = Literal["debug", "info", "warning", "error"]
RoutingPolicy = Literal["warmFirst", "all"]
Value = int | bool | str


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `least` to `most`, both included unless `above` says that the least one is not."""

    least: float
    most: float
    above: bool = False

    @property
    def meta(self) -> msgspec.Meta:
        """The same as a bound of a type."""
        if self.above:
            return msgspec.Meta(gt=self.least, le=self.most)
        return msgspec.Meta(ge=self.least, le=self.most)

    def __contains__(self, number: float) -> bool:
        return (self.least < number if self.above else self.least <= number) and number <= self.most


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSetting:
    path: str
    """In a resource's spec, `idle.offloadAfterSeconds`; the same in the values on the wire and in the FILE."""
    meaning: str
    """What it is, for documentation."""
    default: Value
    admits: Range | None = None
    """What a resource may say, always a whole number; None for words and flags."""
    accepts: Range | None = None
    """What a server takes from its FILE or the wire, where that is more."""
    fractions: bool = False
    """Whether a server takes numbers that aren't whole."""
    words: tuple[str, ...] = ()
    """What it may be, of a setting that is a word."""
    general: bool = True
    """Whether it is set for all models."""
    per_model: bool = False
    """Whether it is set for one model."""
    for_pods: bool = True
    """Whether it is sent to pods; others are the operator's own."""

    @property
    def part(self) -> str:
        """The object that has it, `idle`; empty for a setting that stands alone."""
        return self.path.partition(".")[0] if "." in self.path else ""

    @property
    def field(self) -> str:
        """The name in that object."""
        return self.path.rpartition(".")[2]

    @property
    def bounds(self) -> Range | None:
        """The numbers that a server takes."""
        return self.accepts or self.admits


def _timeout(field: str, default: int, meaning: str) -> LiveSetting:
    return LiveSetting(
        path=f"idle.{field}",
        meaning=meaning,
        default=default,
        admits=Range(NEVER, MAX_SECONDS),
        fractions=True,
        per_model=True,
    )


LIVE: Final = (
    _timeout("offloadAfterSeconds", 60, "idle seconds until weights leave the GPU for host memory"),
    _timeout("exitAfterSeconds", 300, "idle seconds until the worker process of an offloaded model exits"),
    _timeout(
        "dropStandbyAfterSeconds",
        900,
        "idle seconds until no process is kept ready for the next load or wake; weights stay where they are",
    ),
    _timeout("releaseAfterSeconds", 1800, "idle seconds until weights leave host memory as well"),
    LiveSetting(
        path="batching.maxPages",
        meaning="most pages in one call of a model",
        default=8,
        admits=Range(1, 256),
    ),
    LiveSetting(
        path="batching.maxWaitMilliseconds",
        meaning="milliseconds that a page waits at most for others to join its call",
        default=10,
        admits=Range(0, 10_000),
        accepts=Range(0, 60_000),
        fractions=True,
    ),
    LiveSetting(
        path="queue.limit",
        meaning="most waiting requests of a pod",
        default=64,
        admits=Range(1, 10_000),
        accepts=Range(1, 100_000),
    ),
    LiveSetting(
        path="queue.patienceSeconds",
        meaning="age in seconds at which a waiting request is served next",
        default=10,
        admits=Range(0, 3600),
        accepts=Range(0, 86_400),
        fractions=True,
    ),
    LiveSetting(
        path="queue.deadlineSeconds",
        meaning="age in seconds at which a request that still waits is given up",
        default=300,
        admits=Range(1, 86_400),
        accepts=Range(0, 86_400, above=True),
        fractions=True,
    ),
    LiveSetting(
        path="routing.policy",
        meaning="which ready pods the Service sends requests to",
        default="warmFirst",
        words=("warmFirst", "all"),
        for_pods=False,
    ),
    LiveSetting(
        path="routing.maxQueuePerPod",
        meaning="waiting requests per awake pod above which more pods are woken",
        default=4,
        admits=Range(1, 10_000),
        for_pods=False,
    ),
    LiveSetting(
        path="routing.minAwake",
        meaning="pods that stay in the awake set even when idle",
        default=0,
        admits=Range(0, 500),
        for_pods=False,
    ),
    LiveSetting(
        path="routing.stabilizationSeconds",
        meaning="seconds before a pod that isn't needed leaves the awake set",
        default=30,
        admits=Range(0, 86_400),
        for_pods=False,
    ),
    LiveSetting(
        path="logLevel",
        meaning="the least severe messages that pods log",
        default="info",
        words=("debug", "info", "warning", "error"),
    ),
    LiveSetting(
        path="priority",
        meaning="a model with a higher one may evict those with a lower one",
        default=0,
        admits=Range(-1000, 1000),
        accepts=Range(-(2**31), 2**31 - 1),
        general=False,
        per_model=True,
    ),
    LiveSetting(
        path="preload",
        meaning="whether a model is loaded before its first request and stays loaded",
        default=False,
        general=False,
        per_model=True,
    ),
)

BY_PATH: Final[Mapping[str, LiveSetting]] = {each.path: each for each in LIVE}
GENERAL: Final = tuple(each.path for each in LIVE if each.general)
"""Paths of those that a spec has once."""
PER_MODEL: Final = tuple(each.path for each in LIVE if each.per_model)
"""Paths of those that each model has; its own stand before the general ones."""


def default(path: str) -> Any:
    """Return the value of a setting that isn't set anywhere. Not typed, so that it can be a typed field's default."""
    return BY_PATH[path].default


def admitted(path: str) -> msgspec.Meta:
    """Return the bounds of a number in a resource."""
    row = BY_PATH[path]
    if row.admits is None:
        raise ValueError(f"{path} has no bounds: it is no number")
    return row.admits.meta


def accepted(path: str) -> msgspec.Meta:
    """Return the bounds of a number that a server takes."""
    row = BY_PATH[path]
    if row.bounds is None:
        raise ValueError(f"{path} has no bounds: it is no number")
    return row.bounds.meta
