import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.config.live_settings import LiveSettingsOwner
from ocr_inference.config.settings import Config, Effective, LiveSettings
from ocr_inference.errors import ApiError


def make_live() -> tuple[LiveSettingsOwner, list[Effective]]:
    applied: list[Effective] = []
    return LiveSettingsOwner(Config(), LiveSettings(), None, applied.append), applied


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
    assert (len(applied), live.declared.revision) == (1, 3)


def test_a_local_timeout_ends_with_the_next_revision() -> None:
    live, applied = make_live()
    live.set_timeout(None, 5)
    assert live.effective.models["pp-ocr"].idle.offload_after_seconds == 5
    assert live.declared.revision == 0
    live.declare(body(1, 60))
    assert live.effective.models["pp-ocr"].idle.offload_after_seconds == 60
    assert applied[-1] is live.effective


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 3)), max_size=20))
def test_the_clock_never_turns_back(sent: list[tuple[int, int, int]]) -> None:
    live, _ = make_live()
    for revision, seconds, generation in sent:
        before = live.declared
        try:
            held = live.declare(body(revision, seconds, generation))
        except ApiError:
            assert live.declared is before
            continue
        assert held is live.declared
        assert held.revision >= before.revision
        assert held.revision > before.revision or held.hash == before.hash
        assert held.revision > before.revision or held.generation >= before.generation
