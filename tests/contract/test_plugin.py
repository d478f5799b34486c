"""The plugin shares `ocr_wire` with the operator and the server, and no other code: here it reads what they write."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from kubectl_ocr import objects, podhttp
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.objects import Pod, Resource
from kubectl_ocr.views import status as status_view
from kubectl_ocr.views import why as why_view
from ocr_operator.decide import status
from ocr_operator.decide.placement import types
from ocr_operator.decide.status import PodSeen, Seen
from ocr_operator.resources import live_settings, observed, spec
from ocr_wire import names
from ocr_wire import state as podstate
from ocr_wire.live_settings import envelope
from tests.support import inference, pages, resources
from tests.support.observations import raw_pod, raw_state

NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)


def test_every_basis_of_a_placement_is_explained() -> None:
    assert why_view.BASES.keys() == set(types.Basis)


def test_pods_that_have_a_gpu_as_a_whole_are_known() -> None:
    assert why_view.WHOLE.keys() < set(get_args(spec.Sharing))


def test_decision_live_settings_and_status_are_read() -> None:
    """A pod as the operator annotates it, and its entry in the status."""
    deployment = resources.make_deployment(idle={"offloadAfterSeconds": 42})
    values = live_settings.values(deployment.spec)
    live = envelope(3, 2, values)
    placed = types.Placement(
        pod="default/a",
        uid="uid-a",
        deployment="default/invoices",
        sharing="shared",
        node="gpu-a",
        gpus=(types.Gpu(uuid="GPU-1", product="NVIDIA-L40S"),),
        memory_bytes=2**30,
        score=0.5,
        basis=types.Basis.METRICS,
        data_age_seconds=4,
        runners_up=(types.RunnerUp(node="gpu-b", uuid="GPU-2", score=0.25),),
        why="gpu-a/GPU-1 is the only one that fits 1Gi",
    )
    annotations = {
        names.ANNOTATION_PLACEMENT: placed.to_json(NOW),
        names.ANNOTATION_LIVE_SETTINGS: live.to_json(),
    }
    raw = raw_pod("a", annotations=annotations)
    name = deployment.spec.models[0].name
    state = podstate.parse(raw_state("a", models={name: ("ready", "gpu")}))
    assert isinstance(state, podstate.PodState)
    seen = Seen(pods=(PodSeen(pod=observed.pod(raw), state=state),), live=live)
    written = status.aggregate(deployment, seen, NOW)

    pod = objects.one(json.dumps(raw).encode(), Pod)
    body = {"metadata": {"name": "invoices"}, "status": written}
    resource = objects.one(json.dumps(body).encode(), Resource)
    assert isinstance(pod, Pod)
    assert isinstance(resource, Resource)
    view = status_view.view(resource, [pod], NOW)
    [told] = view.pods
    assert view.phase == written["phase"]
    assert any(": Creating" in note for note in view.notes)
    [model] = told.models
    assert (told.state, told.gpus[0].uuid, model.state, model.location) == ("ready", "GPU-1", "ready", "gpu")
    assert (model.next, model.after_seconds) == ("offload", 42)
    why = why_view.why(pod, resource)
    assert (why.why, why.node, why.gpus, why.memory_bytes) == (placed.why, "gpu-a", ("GPU-1",), 2**30)
    assert (why.score, why.basis, why.data_age_seconds, why.placed_at) == (0.5, "metrics", 4, NOW)
    assert [(each.node, each.uuid, each.score) for each in why.runners_up] == [("gpu-b", "GPU-2", 0.25)]


async def test_controls_and_pages_of_the_real_server(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret")
    async with inference.server(admin_token_file=token) as running:
        pod = podhttp.Server(running.http, "a")
        with pytest.raises(Failure, match="refuses the token") as failed:
            await pod.control("/gpu/load", "")
        assert failed.value.status is Exit.NOT_ALLOWED

        running.http.headers["Authorization"] = "Bearer s3cret"
        for path, state, where in (
            ("/gpu/load", "ready", "cpu"),
            ("/gpu/offload", "offloaded", "cpu"),
            ("/gpu/release", "unloaded", "unloaded"),
        ):
            done = await pod.control(path, "slow")
            assert (done.model, done.state, done.model_location) == ("slow", state, where)
        answer = await pod.read(pages.blank(), {"prompt_type": "document"})
        assert isinstance(answer["text"], str)
        with pytest.raises(Failure, match="is no picture") as failed:
            await pod.read(b"text", {})
        assert failed.value.status is Exit.USAGE
