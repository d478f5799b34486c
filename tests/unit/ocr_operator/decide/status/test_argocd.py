"""The health check for Argo CD in docs/status.md, run by a Lua 5.1, as Argo CD's is."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lupa import lua51

from ocr_operator.decide import status
from ocr_operator.decide.status import Refusal, Seen
from ocr_operator.resources.spec import InvalidSpec
from tests.support.paths import DOCS, ROOT
from tests.support.resources import crd_schema, make_body, make_deployment

Json = dict[str, Any]
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
RECORDED: list[Json] = json.loads((ROOT / "tests/golden/kubectl/ocrdeployments.json").read_text("utf-8"))[
    "items"
]
SCRIPT = (DOCS / "status.md").read_text("utf-8").partition("```lua\n")[2].partition("```")[0]


def health(body: Mapping[str, Any]) -> tuple[str, str]:
    """Return what Argo CD shows of an object: a word and a message."""
    lua = lua51.LuaRuntime(register_eval=False, register_builtins=False)
    run: Callable[..., Any] = lua.eval(
        "function(script, it) obj = it; return assert(loadstring(script))() end"
    )
    found = run(SCRIPT, lua.table_from(body, recursive=True))
    assert isinstance(found["message"], str)
    return found["status"], found["message"]


def resource(reported: Mapping[str, Any] | None, generation: int = 1) -> Json:
    body = make_body()
    return {**body, "metadata": {**body["metadata"], "generation": generation}, "status": reported}


def verdict(body: Mapping[str, Any], type_: str) -> Json:
    found: Json = next(each for each in body["status"]["conditions"] if each["type"] == type_)
    return found


@pytest.mark.parametrize("body", RECORDED, ids=lambda body: body["metadata"]["name"])
def test_recorded_resources_are_as_healthy_as_they_are_ready(body: Json) -> None:
    """Of each: once it is observed, after a change that no operator has seen, and before any has looked."""
    ready, generation = verdict(body, "Ready"), body["status"]["observedGeneration"]

    def at(generation: int) -> Json:
        return {**body, "metadata": {**body["metadata"], "generation": generation}}

    word, message = health(at(generation))
    assert (word == "Healthy") is (ready["status"] == "True")
    assert message == ready["message"]
    assert health(at(generation + 1)) == ("Progressing", ready["message"])
    assert health({**body, "status": None})[0] == "Progressing"


def test_recorded_resources_are_ready_and_not() -> None:
    assert {verdict(each, "Ready")["status"] for each in RECORDED} == {"True", "False"}


def test_what_no_operator_has_looked_at_is_in_progress() -> None:
    word, message = health(resource(crd_schema()["properties"]["status"]["default"]))
    assert word == "Progressing"
    assert "no operator has looked at this yet" in message


@pytest.mark.parametrize(
    ("reported", "word"),
    [
        (status.aggregate(make_deployment(replicas=0), Seen(pods=(), rollout=None), NOW), "Healthy"),
        (status.aggregate(make_deployment(replicas=1), Seen(pods=(), rollout=None), NOW), "Progressing"),
        (status.stalled(make_body(), InvalidSpec(field="spec.models", message="is empty"), NOW), "Degraded"),
        (
            status.aggregate(
                make_deployment(),
                Seen(pods=(), rollout=None, refusal=Refusal(reason="NameTaken", message="a")),
                NOW,
            ),
            "Degraded",
        ),
    ],
)
def test_statuses_of_the_operator_are_understood(reported: Json, word: str) -> None:
    assert health(resource(reported, reported["observedGeneration"]))[0] == word


@given(
    observed=st.sampled_from([-1, 1, 2]),
    statuses=st.dictionaries(
        st.sampled_from(["Ready", "Progressing", "Degraded", "Stalled", "Placed"]),
        st.sampled_from(["True", "False", "Unknown"]),
    ),
)
def test_nothing_is_healthy_that_is_not_ready(observed: int, statuses: dict[str, str]) -> None:
    conditions = [{"type": kind, "status": value, "message": kind} for kind, value in statuses.items()]
    word, _ = health(resource({"observedGeneration": observed, "conditions": conditions}, 2))
    seen = observed == 2
    bad = "True" in (statuses.get("Stalled"), statuses.get("Degraded"))
    ready = statuses.get("Ready") == "True"
    assert word == (
        "Progressing" if not seen else "Healthy" if ready else "Degraded" if bad else "Progressing"
    )
