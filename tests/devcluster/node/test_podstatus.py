from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from devcluster.kube import model
from devcluster.kube.model import Condition, Container, Pod, Terminated
from devcluster.node.decide import podstatus
from devcluster.node.decide.podstatus import PodSnapshot, Running, Verdict, View, Waiting

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z"


def make_pod(**spec: object) -> Pod:
    return model.pod(
        {"metadata": {"name": "p", "generation": 3}, "spec": {"containers": [{"name": "c"}], **spec}}
    )


def make_view(state: podstatus.State, name: str = "c", *, sidecar: bool = False, **more: object) -> View:
    container = Container(name=name, image="i", restart_policy="Always" if sidecar else None)
    return View(container, state, **more)  # type: ignore[arg-type]


def observe(
    *main: View,
    init: Sequence[View] = (),
    before: Sequence[Condition] = (),
    pod: Pod | None = None,
    **more: object,
) -> PodSnapshot:
    return PodSnapshot(
        pod=pod or make_pod(),
        init=init,
        main=main,
        pod_ip="127.1.3.1",
        host_ip="127.1.3.254",
        start_time=NOW,
        sandboxed=True,
        before=before,
        **more,  # type: ignore[arg-type]
    )


def conditions(seen: PodSnapshot, now: str = NOW) -> dict[str, tuple[str, str | None]]:
    built = podstatus.build(seen, now)["conditions"]
    return {condition["type"]: (condition["status"], condition["reason"]) for condition in built}


ENDED = Terminated(exit_code=0, reason="Completed", finished_at=NOW)
FAILED = Terminated(exit_code=3, reason="Error", finished_at=NOW)


def test_running_and_ready() -> None:
    seen = observe(make_view(Running(NOW), ready=True, started=True, running_id="process://7-0"))
    status = podstatus.build(seen, NOW)
    assert {kind: value for kind, (value, _) in conditions(seen).items()} == {
        "PodScheduled": "True",
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "ContainersReady": "True",
        "Ready": "True",
    }
    assert status["phase"] == "Running"
    assert status["observedGeneration"] == 3
    assert status["podIP"] == "127.1.3.1"
    assert status["containerStatuses"] == [
        {
            "name": "c",
            "image": "i",
            "imageID": "i",
            "containerID": "process://7-0",
            "restartCount": 0,
            "ready": True,
            "started": True,
            "state": {"running": {"startedAt": NOW}},
        }
    ]


def test_crash_loop_shows_waiting_and_the_last_end() -> None:
    seen = observe(make_view(Waiting("CrashLoopBackOff", "back-off 2s"), last=FAILED, restarts=1))
    status = podstatus.build(seen, NOW)["containerStatuses"][0]
    assert status["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 2s"}}
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert status["imageID"] == "i", "there was a container of it"
    assert podstatus.phase(seen) == "Running"
    assert conditions(seen)["Ready"] == ("False", "ContainersNotReady")


def test_image_is_there_once_a_container_was_made_of_it() -> None:
    waiting = podstatus.build(observe(make_view(Waiting("ContainerCreating"))), NOW)["containerStatuses"][0]
    assert waiting["imageID"] == ""


def test_phase_follows_the_containers() -> None:
    waiting, running = make_view(Waiting("ContainerCreating")), make_view(Running(NOW))
    done, broken = make_view(ENDED, over=True), make_view(FAILED, over=True)
    assert podstatus.phase(observe(waiting)) == "Pending"
    assert podstatus.phase(observe(running, waiting)) == "Running"
    assert podstatus.phase(observe(done, running)) == "Running"
    assert podstatus.phase(observe(done, done)) == "Succeeded"
    assert podstatus.phase(observe(done, broken)) == "Failed"
    assert podstatus.phase(observe(waiting, init=[running])) == "Pending"
    assert podstatus.phase(observe(waiting, init=[broken])) == "Failed"


def test_init_containers_hold_the_pod_back_by_name() -> None:
    seen = observe(make_view(Waiting("PodInitializing")), init=[make_view(Running(NOW), "fetch")])
    built = {condition["type"]: condition for condition in podstatus.build(seen, NOW)["conditions"]}
    assert built["Initialized"]["status"] == "False"
    assert built["Initialized"]["message"] == "containers with incomplete status: [fetch]"


def test_sidecar_counts_as_initialized_once_started() -> None:
    assert not podstatus.initialized([make_view(Running(NOW), sidecar=True)])
    assert podstatus.initialized([make_view(Running(NOW), sidecar=True, started=True)])


def test_pod_ends_after_its_sidecars() -> None:
    done, side = make_view(ENDED, over=True), make_view(Running(NOW), "side", sidecar=True, started=True)
    assert podstatus.phase(observe(done, init=[side])) == "Running"
    killed = make_view(Terminated(exit_code=143), "side", sidecar=True, over=True)
    assert podstatus.phase(observe(done, init=[killed])) == "Succeeded"


def test_refused_pod_is_failed_with_the_reason() -> None:
    seen = observe(
        make_view(Waiting("ContainerCreating")), verdict=Verdict("UnexpectedAdmissionError", "no GPU")
    )
    status = podstatus.build(seen, NOW)
    assert (status["phase"], status["reason"], status["message"]) == (
        "Failed",
        "UnexpectedAdmissionError",
        "no GPU",
    )
    assert "containerStatuses" not in status


def test_readiness_gates_keep_a_pod_unready() -> None:
    pod = make_pod(readinessGates=[{"conditionType": "example.com/ok"}])
    seen = observe(make_view(Running(NOW), ready=True), pod=pod)
    assert conditions(seen)["ContainersReady"] == ("True", None)
    assert conditions(seen)["Ready"] == ("False", "ReadinessGatesNotReady")


@given(st.booleans(), st.booleans())
def test_condition_keeps_its_time_exactly_while_its_status_stays(before: bool, after: bool) -> None:
    first = podstatus.build(observe(make_view(Running(NOW), ready=before)), NOW)
    kept = msgspec.convert(first["conditions"], list[Condition])
    second = podstatus.build(observe(make_view(Running(NOW), ready=after), before=kept), LATER)
    ready = next(condition for condition in second["conditions"] if condition["type"] == "Ready")
    assert ready["lastTransitionTime"] == (NOW if before == after else LATER)
    assert before != after or first == second


def test_signals_read_as_shells_report_them() -> None:
    ended = podstatus.exited(-15, started_at=NOW, finished_at=LATER, container_id="x")
    assert (ended.exit_code, ended.signal, ended.reason) == (143, 15, "Error")
    assert podstatus.exited(0, started_at=NOW, finished_at=LATER, container_id="x").reason == "Completed"
