"""Readings kept as sources change are those that all sources give at once."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.gpuload import readings
from ocr_operator.gpuload.dcgm import GpuReading, Source
from ocr_operator.gpuload.merged import MergedReadings
from ocr_operator.gpuload.readings import NO_GPU_NODES, GpuNodes
from ocr_operator.resources import observed
from ocr_wire import state as podstate
from ocr_wire.state import PodState
from tests.support.observations import raw_pod, raw_state
from tests.unit.ocr_operator.gpuload.test_readings import GIB, NOW, reading

SOURCES = {"exporter/a": Source.EXPORTER, "exporter/b": Source.EXPORTER, "prometheus": Source.PROMETHEUS}
STEPS = (0, 1, 31, 59, 61, 245, 301, -40)
EVENTS = 25


def said(dice: random.Random, source: Source, now: datetime) -> list[GpuReading]:
    found = []
    for uuid in dice.sample(["GPU-1", "GPU-2", "GPU-3"], dice.randint(0, 3)):
        for mig in dice.choice([[""], [""], ["1/1g.5gb", "2/1g.5gb"]]):
            made = reading(
                source, dice.choice(STEPS), dice.choice([None, 0, 3]), dice.choice("ab"), uuid, mig
            )
            found.append(replace(made, read_at=now - (NOW - made.read_at) if made.read_at else None))
    return found


def timeless(found: Iterable[GpuReading]) -> list[GpuReading]:
    """Without the times that readings of pods bear."""
    return [replace(each, read_at=None) if each.source is Source.POD else each for each in found]


@given(st.integers(0, 2**32))
def test_what_is_kept_is_what_is_merged_anew(seed: int) -> None:
    dice, now, merged, known = random.Random(seed), NOW, MergedReadings(), NO_GPU_NODES
    every: dict[str, Sequence[GpuReading]] = {}
    kept: dict[str, Sequence[GpuReading]] = {}
    for _ in range(EVENTS):
        now += timedelta(seconds=dice.choice(STEPS))
        match dice.choice(["source", "source", "pod", "known", "time"]):
            case "source":
                source = dice.choice(list(SOURCES))
                every[source] = said(dice, SOURCES[source], now)
                merged.set(source, every[source])
            case "pod":
                name = dice.choice("xy")
                every[name] = [each for each in said(dice, Source.POD, now) if not each.mig][:1]
                merged.set(name, every[name])
            case "known":
                known = GpuNodes({"GPU-1": dice.choice("ab"), "GPU-2": dice.choice("ab")})
                merged.know(known)
        kept.update(merged.settle(now))
        anew = [
            replace(each, read_at=now) if each.source is Source.POD else each
            for told in every.values()
            for each in told
        ]
        expected = timeless(readings.merge(anew, now, known))
        assert sorted(timeless(each for found in kept.values() for each in found), key=repr) == sorted(
            expected, key=repr
        )


def test_what_is_said_again_changes_nothing() -> None:
    merged, told = MergedReadings(), [reading()]
    merged.set("exporter/a", told)
    assert merged.settle(NOW) == {"gpu-a": told}
    merged.set("exporter/a", [reading()])
    assert merged.settle(NOW) == {}
    merged.set("exporter/a", ())
    assert merged.settle(NOW) == {"gpu-a": []}
    assert not merged.sources


def test_a_pod_is_heard_as_long_as_its_stream_lives_and_without_its_queue() -> None:
    pod, merged = observed.pod(raw_pod("a")), MergedReadings()

    def state(**change: object) -> PodState:
        raw = raw_state("a")
        raw["device"]["gpu"] = {"memory_used_bytes": GIB, "memory_total_bytes": 45 * GIB, "utilization": 0.5}
        found = podstate.parse(msgspec.json.encode(raw | change))
        assert isinstance(found, PodState)
        return found

    merged.hear(pod.uid, pod, state())
    [measured] = merged.settle(NOW)["gpu-a"]
    assert (measured.memory_used_bytes, measured.read_at) == (GIB, NOW)
    merged.hear(pod.uid, pod, state(queue={"waiting": 7, "in_flight": 0, "limit": 64}))
    assert merged.settle(NOW) == {}
    merged.hear(pod.uid, pod, None)
    assert merged.settle(NOW) == {"gpu-a": []}
