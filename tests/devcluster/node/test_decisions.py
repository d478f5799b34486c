"""Images, restarts, probes and devices: the node's small pure decisions."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devcluster.kube import model
from devcluster.kube.model import Exec, Pod, Probe
from devcluster.node.decide import devices, probes, restarts
from devcluster.node.decide.devices import GpuAllocations, Short
from devcluster.node.decide.images import Program, Programs, Unknown
from devcluster.node.decide.probes import Kind, Progress
from devcluster.node.decide.restarts import Backoff


@pytest.mark.parametrize(
    ("image", "last"),
    [
        ("ghcr.io/ocr-operator/ocr-operator:0.1.0", "ocr-operator"),
        ("ocr-inference", "ocr-inference"),
        ("localhost:5000/x/ocr-inference@sha256:abc", "ocr-inference"),
    ],
)
def test_our_images_are_programs_of_the_virtual_environment(image: str, last: str, tmp_path: Path) -> None:
    assert Programs(tmp_path).resolve(image, [], ["serve"]) == Program([str(tmp_path / last), "serve"])


def test_exporter_image_runs_the_simulated_exporter(tmp_path: Path) -> None:
    program = Programs(tmp_path).resolve("nvcr.io/nvidia/k8s/dcgm-exporter:simulated", [], [])
    assert program == Program([str(tmp_path / "python"), "-m", "devcluster.exporter"])


def test_command_replaces_the_entrypoint_and_is_looked_up_in_the_virtual_environment_first(
    tmp_path: Path,
) -> None:
    (tmp_path / "tool").touch()
    programs = Programs(tmp_path)
    assert programs.resolve("ocr-inference", ["tool"], ["a"]) == Program([str(tmp_path / "tool"), "a"])
    assert programs.resolve("ocr-inference", ["sh"], ["-c"]) == Program(["sh", "-c"])


@pytest.mark.parametrize("image", ["nginx", "docker.io/library/postgres:17", "ocr-inference-fork:1", ""])
def test_other_images_cant_be_pulled(image: str, tmp_path: Path) -> None:
    answer = Programs(tmp_path).resolve(image, ["sh"], [])
    assert isinstance(answer, Unknown)
    assert f'"{image}"' in answer.message


def test_shell_image_needs_a_command(tmp_path: Path) -> None:
    programs = Programs(tmp_path)
    assert programs.resolve("localhost/devcluster/shell:1", ["sh"], ["-c", "x"]) == Program(["sh", "-c", "x"])
    assert isinstance(programs.resolve("localhost/devcluster/shell:1", [], []), Unknown)


def test_backoff_doubles_to_its_cap_and_starts_afresh_after_a_calm_run() -> None:
    backoff, delays = Backoff(), []
    for _ in range(8):
        backoff = backoff.after_run(0.1)
        delays.append(backoff.delay)
    assert delays == [1, 2, 4, 8, 16, 30, 30, 30]
    assert backoff.after_run(restarts.CALM_SECONDS).delay == 1


@pytest.mark.parametrize(
    ("policy", "code", "result"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 1, False),
    ],
)
def test_restart_policy(policy: restarts.Policy, code: int, result: bool) -> None:
    assert restarts.again(policy, code) is result


def test_init_containers_dont_run_again_after_success_unless_sidecars() -> None:
    assert restarts.of_container("Always", None, init=True) == "OnFailure"
    assert restarts.of_container("Never", None, init=True) == "Never"
    assert restarts.of_container("Never", "Always", init=True) == "Always"
    assert restarts.of_container("Always", None, init=False) == "Always"


def conclude(probe: Probe, kind: Kind, answers: list[bool]) -> list[bool | None]:
    progress = probes.first(kind)
    seen: list[bool | None] = []
    for answer in answers:
        progress = probes.advance(probe, progress, answer)
        seen.append(progress.passing)
    return seen


def test_conclusion_changes_after_a_row_of_equal_answers() -> None:
    probe = Probe(failure_threshold=3, success_threshold=2)
    answers = [True, True, False, False, True, False, False, False, True, True]
    expected = [False, True, True, True, True, True, True, False, False, True]
    assert conclude(probe, Kind.READINESS, answers) == expected


def test_startup_has_no_conclusion_until_success_or_too_many_failures() -> None:
    probe = Probe(failure_threshold=3)
    assert conclude(probe, Kind.STARTUP, [False, False, True]) == [None, None, True]
    assert conclude(probe, Kind.STARTUP, [False, False, False]) == [None, None, False]


@given(st.lists(st.booleans()), st.integers(1, 5))
def test_liveness_fails_exactly_after_the_threshold(answers: list[bool], threshold: int) -> None:
    seen = conclude(Probe(failure_threshold=threshold), Kind.LIVENESS, answers)
    for index in range(len(answers)):
        row = answers[max(0, index - threshold + 1) : index + 1]
        assert (seen[index] is False) == (len(row) == threshold and not any(row))


def test_only_cheap_probes_look_early() -> None:
    waiting = Progress(False)
    assert probes.eager(Probe(), waiting)
    assert not probes.eager(Probe(), Progress(True))
    assert not probes.eager(Probe(success_threshold=2), waiting)
    assert not probes.eager(Probe(exec=Exec(command=["x"])), waiting)


def make_pod(uid: str, *gpus: int, init: int = 0) -> Pod:
    def container(name: str, count: int) -> dict:
        return {"name": name, "resources": {"limits": {devices.RESOURCE: str(count)} if count else {}}}

    spec = {
        "containers": [container(f"c{index}", count) for index, count in enumerate(gpus)],
        "initContainers": [container("init", init)] if init else [],
    }
    return model.pod({"metadata": {"name": uid, "uid": uid}, "spec": spec})


def make_allocations(count: int) -> GpuAllocations:
    return GpuAllocations(devices.simulated("gpu-a", count, "NVIDIA-L40S", 46068))


def test_simulated_gpus_keep_their_names() -> None:
    first, again = make_allocations(2).gpus, make_allocations(2).gpus
    assert first == again
    assert first[0].memory_bytes == 48305799168
    assert len({gpu.uuid for gpu in [*first, *devices.simulated("gpu-b", 2, "P", 1)]}) == 4


def test_more_gpus_than_free_are_refused_whole() -> None:
    allocations = make_allocations(2)
    assert allocations.allocate(make_pod("a", 1)) == {"c0": [allocations.gpus[0].uuid]}
    assert allocations.allocate(make_pod("b", 1, 1)) == Short(2, 1)
    assert allocations.allocate(make_pod("c", 1)) == {"c0": [allocations.gpus[1].uuid]}


def test_init_containers_share_with_the_main_ones() -> None:
    allocations = make_allocations(2)
    given = allocations.allocate(make_pod("a", 1, init=2))
    assert given == {"init": [gpu.uuid for gpu in allocations.gpus], "c0": [allocations.gpus[0].uuid]}
    assert isinstance(allocations.allocate(make_pod("b", 1)), dict)


@given(
    st.integers(0, 4),
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 5), st.lists(st.integers(0, 2), min_size=1, max_size=2))
    ),
)
def test_a_gpu_never_has_two_holders(count: int, steps: list[tuple[bool, int, list[int]]]) -> None:
    allocations = make_allocations(count)
    holders: dict[str, list[str]] = {}
    for arrive, number, gpus in steps:
        uid = f"pod-{number}"
        if not arrive:
            allocations.release(uid)
            holders.pop(uid, None)
        elif uid not in holders:
            given = allocations.allocate(make_pod(uid, *gpus))
            if isinstance(given, Short):
                assert (
                    given.available == count - sum(len(held) for held in holders.values()) < given.requested
                )
            else:
                holders[uid] = [uuid for uuids in given.values() for uuid in uuids]
                assert [len(given[f"c{index}"]) for index in range(len(gpus))] == gpus
        held = [uuid for uuids in holders.values() for uuid in uuids]
        assert len(held) == len(set(held))
        assert set(held) == set(allocations.held)


def test_strange_devices_are_named() -> None:
    gpus = make_allocations(1).gpus
    assert devices.missing(f"{gpus[0].uuid},GPU-else", gpus) == ["GPU-else"]
    assert devices.missing("all", gpus) == []
    assert devices.visible("none") == devices.visible("") == []
    assert devices.visible("all") == ["all"]
