"""GPU load out of a Prometheus server's answers: the exporter's metrics, renamed on the way and perhaps stale.

Prometheus changes what an exporter says: its own target labels push the exporter's aside (`pod` becomes
`exported_pod`), and an instant query repeats the last sample for five minutes. So labels are read in both
spellings, and each GPU's time comes from a second query.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec

from ocr_operator.gpuload import dcgm
from ocr_operator.gpuload.dcgm import GpuReading, Sample, Source

MAX_BYTES: Final = 32 * 1024 * 1024
"""Of one answer: 8,000 GPUs with seven metrics of 400 bytes each stay below."""
MAX_SERIES: Final = 100_000

LOAD: Final = '{__name__=~"' + "|".join((*dcgm.INTERESTING, *dcgm.RENAMED)) + '"}'
TIMES: Final = " or ".join(f"timestamp({name})" for name in (dcgm.FB_USED, "dcgm_fb_used", dcgm.FB_FREE))
"""When each GPU's memory was read; an instant query's own time is that of the question."""

_HOSTS: Final = (
    "exported_Hostname",
    "exported_hostname",
    "Hostname",
    "hostname",
    "exported_node",
    "node",
    "kubernetes_node",
    "instance",
)
"""Labels that may name the node. The first that is a node of ours counts: without attribution to Kubernetes,
`Hostname` is the name of the exporter's pod."""


class InvalidAnswer(ValueError):
    """An answer of Prometheus that is no result of ours; the message says what it is."""


class _Series(msgspec.Struct, frozen=True):
    metric: dict[str, str]
    value: tuple[float, str]


class _Data(msgspec.Struct, frozen=True):
    result: Annotated[list[_Series], msgspec.Meta(max_length=MAX_SERIES)]


class _Answer(msgspec.Struct, frozen=True):
    status: str
    data: _Data | None = None
    error: str = ""


def readings(
    load: bytes, times: bytes, nodes: Collection[str], exporters: Collection[str] = ()
) -> list[GpuReading]:
    """Readings of GPUs on `nodes`, from the answers to `LOAD` and `TIMES`. Raises `InvalidAnswer`.

    `exporters`: `namespace/pod` of exporter pods; as the label of a sample such a name is the target's, not that of
    a pod which holds the GPU. A GPU whose time isn't reported has none, and counts as unknown.
    """
    read_at = {dcgm.identity(labels): value for _, labels, value in _samples(times)}

    def host(labels: Mapping[str, str]) -> str:
        return next((name for label in _HOSTS if (name := labels.get(label, "")) in nodes), "")

    found = dcgm.gather(_samples(load), host, None)
    return [
        replace(
            each,
            source=Source.PROMETHEUS,
            read_at=_time(read_at.get((each.uuid, each.mig))),
            holders=tuple(name for name in each.holders if name not in exporters),
        )
        for each in found
    ]


def _samples(body: bytes) -> Iterator[Sample]:
    try:
        answer = _ANSWER.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidAnswer(f"no answer of Prometheus: {str(error)[:200]}") from error
    if answer.status != "success" or answer.data is None:
        raise InvalidAnswer(f"Prometheus refuses the query: {answer.error[:200] or answer.status[:64]}")
    for series in answer.data.result:
        name = series.metric.get("__name__", "")
        try:
            yield dcgm.RENAMED.get(name, name), series.metric, float(series.value[1])
        except ValueError:
            continue


def _time(seconds: float | None) -> datetime | None:
    if seconds is None or not math.isfinite(seconds):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


_ANSWER: Final = msgspec.json.Decoder(_Answer)
