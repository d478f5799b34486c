"""GPU load out of a Prometheus server's answers: the exporter's metrics, renamed on the way and perhaps stale.

Prometheus changes what an exporter says: its own target labels push the exporter's aside (`pod` becomes
`exported_pod`), and an instant query repeats the last sample for five minutes. So labels are read in both
spellings, each GPU's time comes from a second query, and the names of what is scraped from a third.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec

from ocr_operator.gpuload import dcgm
from ocr_operator.gpuload.dcgm import GpuReading, Source
from ocr_operator.gpuload.exposition import Sample
from ocr_operator.gpuload.hosts import Hosts

MAX_BYTES: Final = 32 * 1024 * 1024
"""Of one answer: 8,000 GPUs with seven metrics of 400 bytes each stay below."""
MAX_SERIES: Final = 100_000

_EACH_TIME: Final = (dcgm.FB_USED, "dcgm_fb_used", dcgm.FB_FREE, "gpu_used_vram")


@dataclass(frozen=True, slots=True)
class Queries:
    """The questions of one round."""

    load: str
    times: str
    """When each GPU's memory was read; an instant query's own time is that of the question."""
    targets: str
    """What is scraped for it: `up` has the labels that Prometheus adds to every sample, and no other."""


def queries(matchers: str = "") -> Queries:
    """Ask for the GPUs whose series have the labels, such as `cluster="eu"`; for all without any."""
    more = f",{matchers}" if matchers else ""
    only = f"{{{matchers}}}" if matchers else ""
    load = f'{{__name__=~"{"|".join(dcgm.NAMES)}"{more}}}'
    return Queries(
        load=load,
        times=" or ".join(f"timestamp({name}{only})" for name in _EACH_TIME),
        targets=f"up{only} and on (job, instance) {load}",
    )


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


_Key = tuple[str, str, str]
"""UUID, MIG instance and job of a series."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Readings of one round."""

    readings: tuple[GpuReading, ...]
    doubtful: frozenset[str] = frozenset()
    """Nodes that nothing is believed of, since several clusters seem to have a node of that name."""


def read(
    load: bytes, times: bytes, targets: bytes, nodes: Collection[str], exporters: Collection[str] = ()
) -> Answer:
    """Readings of GPUs on `nodes`, from the answers to `Queries`. Raises `InvalidAnswer`.

    `exporters`: `namespace/pod` of exporter pods known otherwise, such as those that were restarted lately; as the
    label of a sample such a name is the target's, not that of a pod which holds the GPU. A GPU whose time isn't
    reported has none, and counts as unknown.
    """
    newest = _newest(times)
    samples = [each for each in _samples(load) if _current(each[1], newest)]
    scraped = {*exporters, *_pods(labels for _, labels, _ in _samples(targets))}
    scraped.update(_pods(labels for _, labels, _ in samples if labels.get("exported_pod")))
    hosts = Hosts(nodes)
    found = dcgm.gather(samples, hosts.of, None, scraped)
    doubtful = hosts.doubtful
    read_at: dict[tuple[str, str], float] = {}
    for (uuid, mig, _), (time, _) in newest.items():
        read_at[uuid, mig] = max(time, read_at.get((uuid, mig), -math.inf))
    return Answer(
        tuple(
            replace(
                each,
                source=Source.PROMETHEUS,
                read_at=_time(read_at.get((each.uuid, each.mig))),
            )
            for each in found
            if each.node not in doubtful
        ),
        doubtful,
    )


def _newest(times: bytes) -> dict[_Key, tuple[float, str]]:
    """The time of each GPU's newest sample of a job, and the exporter (`instance`) that it is from."""
    found: dict[_Key, tuple[float, str]] = {}
    for _, labels, value in _samples(times):
        key, new = _key(labels), (value, labels.get("instance", ""))
        if math.isfinite(value) and new > found.get(key, (-math.inf, "")):
            found[key] = new
    return found


def _current(labels: Mapping[str, str], newest: Mapping[_Key, tuple[float, str]]) -> bool:
    """Return whether it is of the exporter that runs: of one that was restarted, the old series is repeated beside the
    new one for five minutes. Exporters of several kinds, which are of several jobs, stand side by side.
    """
    _, instance = newest.get(_key(labels), (0.0, ""))
    return not instance or labels.get("instance", instance) == instance


def _key(labels: Mapping[str, str]) -> _Key:
    return *dcgm.identity(labels), labels.get("job", "")


def _pods(every: Iterable[Mapping[str, str]]) -> set[str]:
    """Name the pods of targets: the label by which the target is known."""
    return {
        f"{labels.get('namespace', '')}/{labels[label]}"
        for labels in every
        for label in ("pod", "pod_name", "kubernetes_pod_name")
        if labels.get(label)
    }


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
