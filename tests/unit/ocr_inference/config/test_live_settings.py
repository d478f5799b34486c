import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.config import live_settings
from ocr_inference.config.live_settings import LiveSettingsOwner
from ocr_inference.config.settings import Config, Effective
from ocr_inference.errors import ApiError
from ocr_wire.live_settings import Received, digest
from ocr_wire.settings import NEVER


def make_live() -> tuple[LiveSettingsOwner, list[Effective]]:
    applied: list[Effective] = []
    return LiveSettingsOwner(Config(), Received(), None, applied.append), applied


def body(revision: int, seconds: float = 60, generation: int = 1) -> bytes:
    values = {"idle": {"offloadAfterSeconds": seconds}}
    return json.dumps({"generation": generation, "revision": revision, "values": values}).encode()


def test_a_newer_revision_is_applied_once() -> None:
    live, applied = make_live()
    live.declare(body(3, 7))
    live.declare(body(3, 7))
    assert [each.models["pp-ocr"].idle.offload_after_seconds for each in applied] == [7]


def test_nothing_is_applied_of_bad_or_old_settings() -> None:
    live, applied = make_live()
    live.declare(body(3))
    for bad, status in ((body(2), 409), (body(3, 8), 409), (body(4, -3), 422), (b"", 422)):
        with pytest.raises(ApiError) as caught:
            live.declare(bad)
        assert caught.value.status == status
    assert (len(applied), live.echo.value.revision) == (1, 3)


def test_a_local_timeout_ends_with_the_next_revision() -> None:
    live, applied = make_live()
    live.set_timeout(None, 5)
    assert live.effective.models["pp-ocr"].idle.offload_after_seconds == 5
    assert live.echo.value.revision == 0
    live.declare(body(1, 60))
    assert live.effective.models["pp-ocr"].idle.offload_after_seconds == 60
    assert applied[-1] is live.effective


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 3)), max_size=20))
def test_the_clock_never_turns_back(sent: list[tuple[int, int, int]]) -> None:
    live, _ = make_live()
    for revision, seconds, generation in sent:
        before = live.echo.value
        try:
            held = live.declare(body(revision, seconds, generation))
        except ApiError:
            assert live.echo.value is before
            continue
        assert held is live.echo.value
        assert held.revision >= before.revision
        assert held.revision > before.revision or held.hash == before.hash
        assert held.revision > before.revision or held.generation >= before.generation


NEWER = {
    "idle": {"offloadAfterSeconds": -1, "hibernateAfterSeconds": 5},
    "batching": {"maxPages": 3},
    "models": {"pp-ocr": {"quality": "best", "priority": 2}, "another": {"preload": True}},
    "cooling": {"fan": [1, 2]},
}
IGNORED = (
    *("values.cooling", "values.idle.hibernateAfterSeconds", "values.models.another"),
    "values.models.pp-ocr.quality",
)


def newer(**parts: object) -> bytes:
    return json.dumps({"generation": 2, "revision": 5, "values": NEWER, **parts}).encode()


def test_settings_of_a_newer_operator_are_applied_as_far_as_they_are_known() -> None:
    live, applied = make_live()
    echo = live.declare(newer(signature="x"))
    (now,) = applied
    assert now.models["pp-ocr"].idle.offload_after_seconds == NEVER
    assert (now.models["pp-ocr"].priority, now.batching.max_pages) == (2, 3)
    assert (echo.hash, echo.values) == (digest(NEWER), NEWER), "the echo is of what was sent"
    assert echo.ignored == ("signature", *IGNORED)
    assert live.declare(newer(signature="x")) is echo


def test_a_bad_value_of_a_known_setting_is_refused_with_all_others() -> None:
    live, applied = make_live()
    with pytest.raises(ApiError) as caught:
        live.declare(newer(values={**NEWER, "queue": {"limit": 0}}))
    assert (caught.value.status, caught.value.param) == (422, "values.queue.limit")
    assert (applied, live.echo.value.revision) == ([], 0)


def test_a_restart_with_settings_of_a_newer_operator_keeps_those_that_are_known(tmp_path: Path) -> None:
    """Else "never offload" would become the default of 60 s."""
    file = tmp_path / "live-settings"
    file.write_bytes(newer())
    told = live_settings.at_start(file, Config())
    live = LiveSettingsOwner(Config(), told, None, lambda _: None)
    assert live.effective.models["pp-ocr"].idle.offload_after_seconds == NEVER
    assert (live.echo.value.revision, live.echo.value.ignored) == (5, IGNORED)


@pytest.mark.parametrize("text", ["", " ", "{", '{"revision": 3}', "x" * 100_000])
def test_a_file_that_cannot_be_read_declares_nothing(tmp_path: Path, text: str) -> None:
    file = tmp_path / "live-settings"
    file.write_text(text)
    assert live_settings.at_start(file, Config()) == Received()
    assert live_settings.at_start(tmp_path / "missing", Config()) == Received()
