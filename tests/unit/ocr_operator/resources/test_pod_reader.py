"""Pods share what is equal of them, and views of a few fields are those of whole objects."""

import copy
import gc
import tracemalloc
import weakref
from dataclasses import fields
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.kube import api, decoding
from ocr_operator.resources import observed
from ocr_operator.resources.observed import NO_POD, Pod
from ocr_operator.resources.pod_reader import PodReader
from ocr_wire import names
from tests.support.observations import full_pod, raw_pod

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def watched(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a pod as the watch reads it."""
    line = msgspec.json.encode({"type": "MODIFIED", "object": raw})
    return decoding.event(line, shape=api.POD.shape)[1]


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, each in inner for found in paths(each, (*path, key)))]


def without(raw: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    raw = copy.deepcopy(raw)
    at: Any = raw
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return raw


PARTS = [path for path in paths(full_pod()) if len(path) > 1]


@given(st.lists(st.sampled_from([None, *PARTS]), min_size=1, max_size=4), st.sampled_from(["one", "other"]))
def test_views_are_those_of_whole_objects(absent: list[tuple[Any, ...] | None], owner: str) -> None:
    reader = PodReader()
    for number, path in enumerate(absent):
        raw = full_pod(f"pod-{number % 3}", owner=owner, node=f"gpu-{number % 2}")
        raw = raw if path is None else without(raw, path)
        plain = observed.pod(raw)
        assert reader.read(watched(raw)) == plain
        assert reader.read(raw) == plain, "answers to writes are whole objects"
        assert observed.pod(watched(raw)) == plain


def test_no_field_that_is_read_is_missed_here() -> None:
    read = observed.pod(full_pod())
    assert [each.name for each in fields(Pod) if getattr(read, each.name) == getattr(NO_POD, each.name)] == []


def test_pods_of_a_template_share_what_is_equal() -> None:
    reader = PodReader()
    one, two = (
        reader.read(watched(full_pod(name, node=node))) for name, node in (("one", "a"), ("two", "b"))
    )
    for part in (
        "labels",
        "node_selector",
        "tolerations",
        "spread",
        "demand",
        "owner",
        "containers",
        "gates",
    ):
        assert getattr(one, part) is getattr(two, part), part
    assert one.annotations is not None
    assert two.annotations is not None
    assert one.annotations[names.ANNOTATION_CONFIG] is two.annotations[names.ANNOTATION_CONFIG]
    assert one.annotation(names.ANNOTATION_PLACEMENT) == "of one"
    assert two.annotation(names.ANNOTATION_PLACEMENT) == "of two"
    assert one.affinity is not None
    assert two.affinity is not None
    assert one.affinity["podAntiAffinity"] is two.affinity["podAntiAffinity"]


def test_pods_of_different_templates_share_what_names_their_node() -> None:
    reader = PodReader()
    first = reader.read(watched(full_pod("one", owner="first")))
    reader.read(watched(raw_pod("between")))
    second = reader.read(watched(full_pod("two", owner="second")))

    terms = [
        (each.affinity or {})["nodeAffinity"][REQUIRED]["nodeSelectorTerms"][0] for each in (first, second)
    ]
    assert terms[0] is terms[1]
    assert msgspec.json.encode(terms[0]) == msgspec.json.encode(dict(terms[0])), "patches are built on it"


def test_pods_that_are_gone_leave_nothing() -> None:
    reader = PodReader()
    gone = [weakref.ref(reader.read(full_pod(f"pod-{each}", owner=f"uid-{each}"))) for each in range(3)]
    reader.read(raw_pod("last"))
    gc.collect()
    assert [each() for each in gone] == [None] * 3


def test_pod_costs_little_memory() -> None:
    """Without anything shared each takes 8.4 KiB."""
    reader = PodReader()
    lines = [full_pod(f"pod-{each}", owner=f"uid-{each // 5}", node=f"gpu-{each % 7}") for each in range(500)]
    tracemalloc.start()
    try:
        kept = [reader.read(watched(each)) for each in lines]
        assert tracemalloc.get_traced_memory()[0] / len(kept) < 4096
    finally:
        tracemalloc.stop()
