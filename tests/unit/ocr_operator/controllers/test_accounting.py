"""What is promised, kept as pods, nodes and states change, against the same added up anew."""

import json
import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.controllers.accounting import Accounting
from ocr_operator.controllers.tenants import Tenants
from ocr_operator.decide import placement
from ocr_operator.decide.placement import (
    POLICIES,
    NoFit,
    Placement,
    Request,
    Reservation,
    lingering,
    predicates,
)
from ocr_operator.gpuload import readings
from ocr_operator.gpuload.merged import MergedReadings
from ocr_operator.resources import observed
from ocr_operator.resources.observed import Node, Pod
from ocr_wire import names
from ocr_wire import state as podstate
from ocr_wire.state import PodState
from tests.support.fakekube import FakeKube
from tests.support.observations import raw_pod, raw_state
from tests.unit.ocr_operator.decide.placement.test_placement import (
    GIB,
    GPUS,
    L40S,
    NOW,
    make_gpu,
    make_node,
    make_request,
)

NODES = ("gpu-a", "gpu-b")
POLICY = POLICIES["leastLoaded"]
EVENTS = 25
REQUESTS = (
    make_request(memory=6),
    make_request("exclusive", 6),
    make_request(memory=6, pod="default/p0", uid="uid-p0"),
)


class Books:
    """The same events, for what keeps them and for what adds them up."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.now: datetime = NOW
        self.needs: dict[str, int] = {}
        self.states: dict[str, PodState] = {}
        self.pods: dict[str, Pod] = {}
        self.nodes: dict[str, Node] = {}
        self.exporters: dict[str, Sequence[Any]] = {}
        self.promises: dict[str, Reservation] = {}
        self.lingering: lingering.Lingering = {}
        self.gpus = MergedReadings()
        self.tenants = Tenants(
            FakeKube(),
            time=lambda: 0.0,
            on_loss=lambda _: None,
            namespaces=("",),
            on_change=self._usage_changed,
        )
        self.kept = Accounting(POLICY, self.tenants, needs=self.needs, namespace_labels=lambda _: {})

    def _usage_changed(self, node: str) -> None:
        self.kept.usage_changed(node)

    # What happens

    def pod(self) -> None:
        """A pod comes or changes: gated, placed, bound, ended."""
        dice = self.dice
        number = dice.randint(0, 3)
        name, node = f"p{number}", NODES[number % 2]  # a pod that is bound stays there
        record: dict[str, Any] = {"node": node, "placedAt": "2026-11-23T08:00:00Z"}
        record |= {"memoryBytes": dice.choice([4, 20]) * GIB} if dice.random() < 0.7 else {}
        pinned = {names.ANNOTATION_GPU_UUIDS: f"GPU-{node}-1"} if dice.random() < 0.6 else {}
        annotations = (
            {names.ANNOTATION_PLACEMENT: json.dumps(record), **pinned} if dice.random() < 0.8 else {}
        )
        requests = {"cpu": "1"} | ({} if pinned else {GPUS: "1"})
        raw = raw_pod(
            name,
            node=dice.choice([node, node, ""]),
            ready=dice.random() < 0.7,
            gated=dice.random() < 0.3,
            annotations=annotations,
            deployment=dice.choice(["invoices", "other"]),
            containers=[{"name": "a", "resources": {"requests": requests}}],
            terminationGracePeriodSeconds=60,
        )
        raw["status"]["phase"] = dice.choice(["Running", "Running", "Failed"])
        before, after = self.pods.get(name), observed.pod(raw)
        self.pods[name] = after
        self.tenants.pod_changed(before, after)
        self.kept.pod_changed(before, after, self.now)

    def gone(self) -> None:
        name = f"p{self.dice.randint(0, 3)}"
        if (before := self.pods.pop(name, None)) is not None:
            self.tenants.pod_changed(before, None)
            self.kept.pod_changed(before, None, self.now)
            self.lingering = lingering.add(self.lingering, before, self.now)

    def foreign(self) -> None:
        """A pod of others comes, or changes."""
        dice = self.dice
        asked = {"cpu": dice.choice(["1", "7"]), **({GPUS: "1"} if dice.random() < 0.5 else {})}
        containers = [{"name": "a", "resources": {"requests": asked}}]
        name, node = f"f{dice.randint(0, 1)}", dice.choice(NODES)
        self.tenants.informer._set(raw_pod(name, node=node, deployment="", containers=containers))

    def foreign_gone(self) -> None:
        name = f"f{self.dice.randint(0, 1)}"
        self.tenants.informer.gone(("default", name), f"uid-{name}")

    def state(self) -> None:
        """A pod says something, or can't be heard any more."""
        dice = self.dice
        name = f"p{dice.randint(0, 3)}"
        raw = raw_state(name, uuid=dice.choice(["GPU-gpu-a-1", "GPU-gpu-b-2", None]))
        raw["device"]["memory_used_bytes"] = dice.choice([0, GIB])
        if dice.random() < 0.5:
            measured = {
                "memory_used_bytes": dice.choice([0, 9]) * GIB,
                "memory_total_bytes": L40S,
                "utilization": 0.5,
            }
            raw["device"]["gpu"] = measured
        self.states.pop(f"uid-{name}", None)
        if dice.random() < 0.8:
            found = podstate.parse(msgspec.json.encode(raw))
            assert isinstance(found, PodState)
            self.states[f"uid-{name}"] = found
        self.kept.state_changed(f"uid-{name}")

    def need(self) -> None:
        self.needs["default/invoices"] = self.dice.choice([1, 30]) * GIB
        self.kept.needs_changed(
            "invoices", [each for each in self.pods.values() if each.deployment == "invoices"]
        )

    def node(self) -> None:
        name = self.dice.choice(NODES)
        before = self.nodes.pop(name, None)
        if self.dice.random() < 0.8:
            allocatable = {GPUS: 2, "cpu": self.dice.choice([1500, 8000])}
            self.nodes[name] = make_node(name, allocatable=allocatable)
        self.kept.node_changed(before, self.nodes.get(name))

    def exporter(self) -> None:
        name, dice = self.dice.choice(NODES), self.dice
        self.exporters[name] = [
            make_gpu(name, f"GPU-{name}-{k}", dice.choice([0, 10, 40]), read_at=self.now) for k in (1, 2)
        ]
        self.gpus.set(f"exporter/{name}", self.exporters[name])

    def promise(self) -> None:
        request = self.dice.choice(REQUESTS)
        choice = self.kept.choose(request, self.gpus, self.heard, self.now)
        if isinstance(choice, Placement):
            self.promises[choice.uid] = choice.reservation(self.now)

    def release(self) -> None:
        uid = self.dice.choice(["uid-p0", "uid-new"])
        self.promises.pop(uid, None)
        self.kept.release(uid)

    def time(self) -> None:
        self.now += timedelta(seconds=self.dice.choice([1, 30, 70, 240]))

    # What follows

    def heard(self, pod: Pod) -> PodState | None:
        return self.states.get(pod.uid)

    def anew(self, request: Request) -> Placement | NoFit:
        there = {pod.uid: pod for pod in self.pods.values()}
        gone = {uid: pod for uid, (pod, end) in self.lingering.items() if end > self.now and uid not in there}
        states = {uid: state for uid, state in self.states.items() if uid in there}
        carried = placement.reserved((there | gone).values(), self.needs, states)
        known = {entry.uid for entry in carried}
        sent = [entry for uid, entry in self.promises.items() if uid not in known]
        coming = [self.tenants.coming(node, pod) for node, pod in self._promised(request.uid)]
        measured = readings.of_pods(there.values(), states, self.now)
        told = [each for said in self.exporters.values() for each in said]

        def usage(node: str) -> predicates.Usage:
            return self.tenants.usage(node).plus(each for each in coming if each.node == node)

        return placement.choose(
            request,
            self.nodes.values(),
            readings.merge((*told, *measured), self.now),
            [*carried, *sent],
            self.now,
            policy=POLICY,
            usage=usage,
        )

    def _promised(self, asking: str) -> Iterator[tuple[str, Pod]]:
        for pod in self.pods.values():
            if pod.uid == asking:
                continue
            if pod.gated:
                if pod.uid in self.promises:
                    yield self.promises[pod.uid].node, pod
            elif not (self.tenants.known(pod) or pod.finished) and (
                node := pod.node or placement.record(pod).node
            ):
                yield node, pod


@given(st.integers(0, 2**32))
def test_what_is_kept_comes_to_what_is_added_up(seed: int) -> None:
    dice = random.Random(seed)
    books = Books(dice)
    for _ in range(3):
        books.node()
        books.exporter()
    for _ in range(EVENTS):
        dice.choice(
            [
                *(
                    books.pod,
                    books.pod,
                    books.gone,
                    books.foreign,
                    books.foreign_gone,
                    books.state,
                    books.need,
                ),
                *(books.node, books.exporter, books.promise, books.release, books.time),
            ]
        )()
        request = dice.choice(REQUESTS)
        books.kept.prepare(request, books.gpus, books.heard, books.now, 0)
        assert books.kept._index.choose(request, books.now) == books.anew(request)
