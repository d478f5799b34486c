"""The best of several sources for each GPU: fresh before old, node-wide before a pod's own word, in any order."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.gpuload import readings
from ocr_operator.gpuload.dcgm import GpuReading, Source
from ocr_operator.resources import observed
from ocr_wire import state as podstate
from tests.support.observations import raw_pod, raw_state

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
GIB = 2**30


def reading(
    source: Source = Source.EXPORTER,
    age: float = 5,
    used: float | None = 1,
    node: str = "gpu-a",
    uuid: str = "GPU-1",
    mig: str = "",
) -> GpuReading:
    return GpuReading(
        node=node,
        uuid=uuid,
        mig=mig,
        memory_used_bytes=None if used is None else int(used * GIB),
        memory_total_bytes=45 * GIB,
        utilization=0.5,
        read_at=NOW - timedelta(seconds=age),
        source=source,
    )


def merged(*sources: GpuReading) -> GpuReading:
    [one] = readings.merge(sources, NOW)
    return one


UNKNOWN_OR_ZERO = st.sampled_from([None, 0, 1])
SAME_MOMENT = st.builds(
    GpuReading,
    node=st.just("gpu-a"),
    uuid=st.just("GPU-1"),
    index=UNKNOWN_OR_ZERO,
    memory_used_bytes=UNKNOWN_OR_ZERO,
    memory_free_bytes=UNKNOWN_OR_ZERO,
    memory_total_bytes=UNKNOWN_OR_ZERO,
    utilization=st.sampled_from([None, 0.0, 1.0]),
    read_at=st.sampled_from([None, datetime.fromtimestamp(0, UTC)]),
    source=st.sampled_from([Source.PROMETHEUS, Source.POD]),
)
"""Readings that differ in what a careless order would call equal."""


@given(st.lists(SAME_MOMENT, min_size=2, max_size=4))
def test_what_is_not_known_is_not_zero_in_any_order(given_readings: list[GpuReading]) -> None:
    expected = readings.merge(given_readings, NOW), readings.gpu_nodes(given_readings, NOW)
    for each in permutations(given_readings):
        assert (readings.merge(each, NOW), readings.gpu_nodes(each, NOW)) == expected


@pytest.mark.parametrize("field", ["memory_used_bytes", "memory_free_bytes", "utilization", "index"])
def test_zero_is_newer_than_unknown(field: str) -> None:
    unknown = replace(reading(), **{field: None})  # type: ignore[arg-type]
    zero = replace(reading(), **{field: 0})  # type: ignore[arg-type]
    assert merged(unknown, zero) == merged(zero, unknown) == zero


class TestMerge:
    def test_the_newest_of_those_that_measure_nodes_wins(self) -> None:
        exporter, asked = reading(age=40), reading(Source.PROMETHEUS, age=10)
        assert merged(exporter, asked) == asked
        assert merged(reading(age=5), asked).source is Source.EXPORTER

    def test_a_fresh_exporter_wins_over_a_pods_newer_word(self) -> None:
        assert merged(reading(age=40), reading(Source.POD, age=0, used=0)).source is Source.EXPORTER

    def test_a_pod_stands_in_for_an_exporter_that_went_silent(self) -> None:
        silent = replace(reading(age=90), holders=("a/stranger",))
        answer = merged(silent, reading(Source.POD, age=0, used=7))
        assert (answer.source, answer.memory_used_bytes) == (Source.POD, 7 * GIB)
        assert answer.holders == ("a/stranger",), "no pod knows who holds the GPU"

    def test_one_without_memory_or_from_the_future_is_no_help(self) -> None:
        asked = reading(Source.PROMETHEUS, age=200)
        assert merged(reading(age=1, used=None), asked) == asked
        assert merged(reading(age=-3600), asked) == asked

    def test_a_pod_that_claims_another_nodes_gpu_is_not_heard(self) -> None:
        theirs = reading(node="gpu-b", age=100)
        assert readings.merge([reading(Source.POD, age=0, node="gpu-a"), theirs], NOW) == [theirs]

    def test_a_pod_on_a_gpu_in_instances_does_not_make_it_whole(self) -> None:
        instance = replace(reading(age=250), mig="2/3g.40gb")
        assert readings.merge([reading(Source.POD, age=0), instance], NOW) == [instance]

    @given(
        st.lists(
            st.builds(
                reading,
                st.sampled_from(Source),
                st.sampled_from([-3600, -1, 0, 5, 59, 61, 299, 301, 10_000]),
                st.sampled_from([None, 0, 3, 50]),
                st.sampled_from(["gpu-a", "gpu-b"]),
                st.sampled_from(["GPU-1", "GPU-2", "GPU-3"]),
                st.sampled_from(["", "", "1/1g.5gb", "2/1g.5gb"]),
            ).filter(lambda each: each.source is not Source.POD or not each.mig),
            max_size=8,
        ),
        st.dictionaries(st.sampled_from(["GPU-1", "GPU-2"]), st.sampled_from(["gpu-a", "gpu-b"])),
        st.randoms(use_true_random=False),
    )
    def test_order_is_irrelevant_and_each_gpu_is_whole_or_cut_on_one_node(
        self, sources: Sequence[GpuReading], homes: dict[str, str], random: st.DataObject
    ) -> None:
        known = readings.GpuNodes(homes)
        answer = readings.merge(sources, NOW, known)
        shuffled = list(sources)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        assert readings.merge(shuffled, NOW, known) == answer
        assert readings.gpu_nodes(shuffled, NOW, known) == readings.gpu_nodes(sources, NOW, known)
        assert len({(each.uuid, each.mig) for each in answer}) == len(answer)
        for uuid in {each.uuid for each in sources}:
            mine = [each for each in answer if each.uuid == uuid]
            assert len({each.node for each in mine}) == len({bool(each.mig) for each in mine}) == 1
        assert readings.merge(answer, NOW, known) == answer


class TestOfPods:
    def of(self, device: dict[str, object]) -> list[GpuReading]:
        raw = raw_state("a")
        raw["device"] |= device
        state = podstate.parse(raw)
        assert isinstance(state, podstate.PodState), state
        return readings.of_pods([observed.pod(raw_pod("a"))], {"uid-a": state}, NOW)

    def test_what_a_pod_measures_is_a_reading_of_now(self) -> None:
        whole = {"memory_used_bytes": 3 * GIB, "memory_total_bytes": 45 * GIB, "utilization": 0.25}
        [one] = self.of({"gpu": whole})
        assert (one.node, one.uuid, one.product) == ("gpu-a", "GPU-1", "NVIDIA-L40S")
        assert (one.memory_used_bytes, one.utilization, one.read_at) == (3 * GIB, 0.25, NOW)
        assert one.source is Source.POD

    def test_pods_that_measure_nothing_or_nonsense_are_left_out(self) -> None:
        whole = {"memory_used_bytes": 3 * GIB, "memory_total_bytes": 45 * GIB, "utilization": 0.25}
        assert self.of({"gpu": None}) == []
        assert self.of({"gpu": whole, "uuid": None}) == []
        assert self.of({"gpu": whole, "uuid": "all"}) == []
        assert self.of({"gpu": whole, "uuid": "MIG-1"}) == [], "an instance is no GPU"
        assert self.of({"gpu": whole | {"memory_total_bytes": 0}}) == []
        assert self.of({"gpu": whole | {"memory_total_bytes": 2**60}}) == []
        assert readings.of_pods([observed.pod(raw_pod("a"))], {}, NOW) == []


def test_homes_come_from_those_who_measure_nodes() -> None:
    gpu_nodes = readings.gpu_nodes([reading(), reading(Source.POD, uuid="GPU-9", node="gpu-c")], NOW)
    assert gpu_nodes == readings.GpuNodes({"GPU-1": "gpu-a"}, frozenset({"gpu-a"}))


def test_an_exporter_that_answers_knows_all_gpus_of_its_node() -> None:
    ours, same = reading(), reading(Source.PROMETHEUS, age=2)
    theirs, elsewhere, amd = (
        reading(Source.PROMETHEUS, node=node, uuid=uuid)
        for node, uuid in (("gpu-a", "GPU-9"), ("gpu-b", "GPU-8"), ("gpu-a", "AMD-1"))
    )
    asked = [same, theirs, elsewhere, amd]
    assert readings.of_nodes([ours], asked, NOW) == [ours, same, elsewhere, amd]
    silent = reading(age=61)
    assert readings.of_nodes([silent], asked, NOW) == [silent, *asked]


class TestHomes:
    def test_a_gpu_stays_on_its_node_while_that_reports_it(self) -> None:
        ours, claim = reading(age=30, node="gpu-a"), reading(age=1, node="gpu-b")
        known = readings.gpu_nodes([ours], NOW)
        assert readings.merge([ours, claim], NOW, known) == [ours]
        assert readings.gpu_nodes([ours, claim], NOW, known).nodes == {"GPU-1": "gpu-a"}
        assert readings.merge([ours, claim], NOW) == [claim], "nothing is known at the start"

    def test_a_gpu_moves_when_its_node_is_silent_about_it(self) -> None:
        before, moved = reading(age=61, node="gpu-a"), reading(age=1, node="gpu-b")
        known = readings.gpu_nodes([before], NOW)
        assert readings.merge([before, moved], NOW, known) == [moved]
        assert readings.gpu_nodes([moved], NOW, known).nodes == {"GPU-1": "gpu-b"}

    def test_a_pods_word_keeps_no_gpu_on_a_node(self) -> None:
        moved, word = reading(age=1, node="gpu-b"), reading(Source.POD, age=0, node="gpu-a")
        known = readings.GpuNodes({"GPU-1": "gpu-a"})
        assert readings.merge([word, moved], NOW, known) == [moved]


class TestInstances:
    WHOLE = reading(age=1)
    INSTANCE = replace(reading(Source.PROMETHEUS, age=40), mig="2/3g.40gb")

    def test_a_gpu_that_may_be_cut_is_not_whole(self) -> None:
        for order in permutations([self.WHOLE, self.INSTANCE]):
            assert readings.merge(order, NOW) == [self.INSTANCE]
        unknown = [replace(each, read_at=None) for each in (self.WHOLE, self.INSTANCE)]
        assert [each.mig for each in readings.merge(unknown, NOW)] == ["2/3g.40gb"]

    def test_a_gpu_is_whole_again_when_its_instances_are_old(self) -> None:
        old = replace(self.INSTANCE, read_at=NOW - timedelta(seconds=62))
        assert readings.merge([self.WHOLE, old], NOW) == [self.WHOLE]
