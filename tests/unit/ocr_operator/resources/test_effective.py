"""Which layer sets each live field: the precedence, its bounds, and what a status says of it."""

import itertools
import json
import random
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.resources import effective, live_override, live_settings, policies
from ocr_operator.resources import spec as specs
from ocr_operator.resources.effective import Effective
from ocr_operator.resources.live_override import LiveOverride
from ocr_operator.resources.policies import Policy
from ocr_operator.resources.spec import OcrDeployment
from ocr_wire import names
from ocr_wire.settings import GENERAL, PER_MODEL
from tests.support import resources
from tests.support.paths import ROOT
from tests.support.resources import make_deployment, make_policy

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
"""A Wednesday."""
OFFLOAD = "idle.offloadAfterSeconds"


def offload(seconds: int) -> dict[str, int]:
    return {"offloadAfterSeconds": seconds}


def of(
    resource: OcrDeployment,
    *policies: Policy,
    now: datetime = NOON,
    override: LiveOverride | None = None,
) -> Effective:
    return effective.of(resource, policies, now, override)


def reported(settings: Effective, field: str = OFFLOAD) -> tuple[str, str]:
    [found] = [each for each in settings.sources if each.field == field]
    return found.value, found.origin


def test_without_policies_it_is_the_resource_and_the_defaults() -> None:
    resource = make_deployment(idle=offload(5))
    settings = of(resource)
    assert settings.spec == resource.spec
    assert reported(settings) == ("5", "spec")
    assert reported(settings, "idle.exitAfterSeconds") == ("300", "default")
    assert [each.field for each in settings.sources] == list(GENERAL)


def test_policy_fills_in_what_the_resource_leaves_open() -> None:
    settings = of(make_deployment(idle={"exitAfterSeconds": 7}), make_policy("saver", idle=offload(5)))
    assert settings.spec.idle == specs.Idle(offload_after_seconds=5, exit_after_seconds=7)
    assert reported(settings) == ("5", "OcrIdlePolicy/saver")


def test_resource_wins_over_a_default_even_with_the_default_value() -> None:
    """60 is the built-in default; written down, it is the resource's own word."""
    settings = of(make_deployment(idle=offload(60)), make_policy("saver", idle=offload(5)))
    assert reported(settings) == ("60", "spec")
    assert settings.policy_usage.losers == {"saver"}
    assert settings.policy_usage.winners == frozenset()


def test_override_wins_over_the_resource() -> None:
    settings = of(make_deployment(idle=offload(60)), make_policy("cap", mode="override", idle=offload(5)))
    assert reported(settings) == ("5", "OcrIdlePolicy/cap")


def test_higher_priority_wins_and_the_loser_is_known() -> None:
    low = make_policy("low", priority=1, idle=offload(1), logLevel="debug")
    high = make_policy("high", priority=2, idle=offload(2))
    settings = of(make_deployment(), low, high)
    assert reported(settings) == ("2", "OcrIdlePolicy/high")
    assert reported(settings, "logLevel") == ("debug", "OcrIdlePolicy/low")
    assert settings.policy_usage.winners == {"low", "high"}
    assert settings.policy_usage.losers == {"low"}


def test_among_equals_the_older_wins_then_the_first_by_name() -> None:
    old = make_policy("z", created="2026-01-01T00:00:00Z", idle=offload(1))
    young = make_policy("a", created="2026-01-02T00:00:00Z", idle=offload(2))
    twin = make_policy("b", created="2026-01-01T00:00:00Z", idle=offload(3))
    assert reported(of(make_deployment(), young, old)) == ("1", "OcrIdlePolicy/z")
    assert reported(of(make_deployment(), young, old, twin)) == ("3", "OcrIdlePolicy/b")


def test_model_wins_within_a_layer_and_not_against_a_stronger_one() -> None:
    resource = make_deployment(models=[{**resources.RAPIDOCR, "idle": offload(9)}])
    per_model = make_policy("saver", models=[{"name": "pp-ocr", "idle": offload(5)}], idle=offload(1))
    assert of(make_deployment(), per_model).spec.models[0].idle.offload_after_seconds == 5
    assert of(resource, per_model).spec.models[0].idle.offload_after_seconds == 9
    assert of(resource, per_model).spec.idle.offload_after_seconds == 1

    own = make_deployment(idle=offload(60))
    pods = live_settings.values(of(own, per_model).spec)
    assert pods["models"]["pp-ocr"]["idle"]["offloadAfterSeconds"] == 60, (
        "what it says of all is its own word"
    )

    general = make_policy("cap", mode="override", idle=offload(2))
    capped = live_settings.values(of(resource, general).spec)
    assert capped["models"]["pp-ocr"]["idle"]["offloadAfterSeconds"] == 2


def test_models_that_a_resource_lacks_are_left_out() -> None:
    settings = of(make_deployment(), make_policy(models=[{"name": "other", "preload": True}]))
    assert settings.spec == make_deployment().spec
    assert settings.policy_usage.winners == settings.policy_usage.losers == frozenset()


def test_fields_of_models_are_told_where_somebody_set_them() -> None:
    settings = of(make_deployment(), make_policy("hot", models=[{"name": "pp-ocr", "preload": True}]))
    assert reported(settings, "models[pp-ocr].preload") == ("true", "OcrIdlePolicy/hot")
    assert settings.spec.models[0].preload
    assert len(settings.sources) == len(GENERAL) + 1


def test_closed_windows_leave_a_policy_out() -> None:
    night = make_policy("night", windows=[{"start": "22:00", "end": "06:00"}], idle=offload(5))
    assert reported(of(make_deployment(), night)) == ("60", "default")
    assert reported(of(make_deployment(), night, now=NOON.replace(hour=23))) == ("5", "OcrIdlePolicy/night")
    assert of(make_deployment(), night).policy_usage.selected == {"night"}


def test_routing_is_merged_too() -> None:
    settings = of(make_deployment(), make_policy("awake", routing={"minAwake": 1}))
    assert settings.spec.routing.min_awake == 1
    assert settings.spec.routing.max_queue_per_pod == 4


def test_fields_are_those_of_the_spec() -> None:
    """A live field that is added to a part of the spec is merged without a change here; a new part isn't."""
    live = live_settings.values(make_deployment().spec)
    parts = {f"{part}.{name}" for part in ("idle", "batching", "queue") for name in live[part]}
    assert parts < set(GENERAL)
    assert set(live["models"]["pp-ocr"]) == {path.partition(".")[0] for path in PER_MODEL}
    assert set(live) - {"models"} <= {path.partition(".")[0] for path in GENERAL}


def test_worked_example_of_the_page() -> None:
    example = ROOT / "examples" / "office-hours.yaml"
    fleet = [policies.parse(each) for each in yaml.safe_load_all(example.read_text(encoding="utf-8"))]
    invoices = make_deployment(idle={"exitAfterSeconds": 900})
    fields = (OFFLOAD, "idle.exitAfterSeconds", "idle.releaseAfterSeconds", "queue.limit")
    day, evening = (of(invoices, *fleet, now=NOON.replace(hour=hour - 1)) for hour in (12, 19))
    assert [reported(day, field) for field in fields] == [
        ("1800", "OcrIdlePolicy/office-hours"),
        ("900", "spec"),
        ("600", "OcrIdlePolicy/saver"),
        ("64", "default"),
    ]
    assert reported(evening) == ("30", "OcrIdlePolicy/saver")
    assert day.policy_usage.winners == day.policy_usage.losers == {"saver", "office-hours"}


# --- Properties ---------------------------------------------------------------------------------------------------

SECONDS = st.integers(-1, 5)
IDLE = st.dictionaries(st.sampled_from(["offloadAfterSeconds", "exitAfterSeconds"]), SECONDS)
MODEL = st.fixed_dictionaries(
    {}, optional={"idle": IDLE, "priority": st.integers(-3, 3), "preload": st.booleans()}
)
LIVE = st.fixed_dictionaries(
    {},
    optional={
        "idle": IDLE,
        "logLevel": st.sampled_from(["debug", "info"]),
        "routing": st.fixed_dictionaries({}, optional={"minAwake": st.integers(0, 2)}),
    },
)
POLICY = st.tuples(
    st.integers(-1, 1), st.sampled_from(["default", "override"]), LIVE, st.none() | MODEL, st.integers(1, 3)
)


def built(name: str, parts: tuple[int, str, dict[str, Any], dict[str, Any] | None, int]) -> Policy:
    priority, mode, live, model, day = parts
    models = {"models": [{"name": "pp-ocr", **model}]} if model is not None else {}
    policy = make_policy(
        name, created=f"2026-01-0{day}T00:00:00Z", priority=priority, mode=mode, **live, **models
    )
    assert policy.rejection is None
    return policy


FLEETS = st.lists(POLICY, max_size=5).map(
    lambda all_: [built(f"p{number}", parts) for number, parts in enumerate(all_)]
)
RESOURCES = st.builds(
    lambda live, model: make_deployment(**live, models=[{**resources.RAPIDOCR, **model}]), LIVE, MODEL
)


def annotated(live: dict[str, Any], model: dict[str, Any] | None) -> dict[str, Any]:
    return {**live, **({"models": [{"name": "pp-ocr", **model}]} if model is not None else {})}


OVERRIDES = st.none() | st.builds(annotated, LIVE, st.none() | MODEL)
"""Values of a live override."""


def override_of(values: dict[str, Any] | None) -> LiveOverride | None:
    if values is None:
        return None
    annotations = {names.ANNOTATION_LIVE_OVERRIDE: json.dumps({"values": values})}
    found = live_override.of({"metadata": {"annotations": annotations}}, ["pp-ocr"])
    assert found is not None
    assert not found.rejection
    return found


def said(written: Any, model: bool, path: str) -> Any:
    """What a raw spec says at a path, found the slow way."""
    if model:
        written = next((each for each in written.get("models", []) if each["name"] == "pp-ocr"), {})
    for step in path.split("."):
        written = written.get(step, {}) if isinstance(written, dict) else {}
    return None if written == {} else written


def oracle(
    resource: OcrDeployment, fleet: list[Policy], override: dict[str, Any] | None, path: str, *places: bool
) -> Any:
    """From the strongest down: the first that says anything, in the model's part (True) or the general one."""

    def rank(policy: Policy) -> Any:
        return (-policy.spec.priority, policy.created, policy.name)

    ranked = sorted(fleet, key=rank)
    layers = [
        *(each.written for each in ranked if each.spec.mode == "override"),
        override or {},
        resource.written,
        *(each.written for each in ranked if each.spec.mode == "default"),
    ]
    for layer, place in itertools.product(layers, places):
        if (value := said(layer, place, path)) is not None:
            return value
    return None


@given(RESOURCES, FLEETS, OVERRIDES)
def test_every_field_comes_from_the_strongest_layer_that_says_it(
    resource: OcrDeployment, fleet: list[Policy], override: dict[str, Any] | None
) -> None:
    settings = of(resource, *fleet, override=override_of(override))
    values = live_settings.values(settings.spec)
    general = values | {"routing": msgspec.to_builtins(settings.spec.routing)}
    for path in (OFFLOAD, "idle.exitAfterSeconds", "logLevel", "routing.minAwake"):
        expected = oracle(resource, fleet, override, path, False)
        default = said(msgspec.to_builtins(specs.Spec(models=resource.spec.models)), False, path)
        assert said(general, False, path) == (default if expected is None else expected)
    for path in (OFFLOAD, "idle.exitAfterSeconds", "priority", "preload"):
        places = (True, False) if path.startswith("idle.") else (True,)
        expected = oracle(resource, fleet, override, path, *places)
        if expected is not None:
            assert said(values["models"]["pp-ocr"], False, path) == expected


@given(RESOURCES, FLEETS, st.randoms(use_true_random=False))
def test_order_of_policies_is_irrelevant(
    resource: OcrDeployment, fleet: list[Policy], shuffler: random.Random
) -> None:
    shuffled = list(fleet)
    shuffler.shuffle(shuffled)
    assert of(resource, *shuffled) == of(resource, *fleet)


@given(RESOURCES, FLEETS, OVERRIDES)
def test_the_outcome_is_a_valid_spec_and_says_where_it_comes_from(
    resource: OcrDeployment, fleet: list[Policy], override: dict[str, Any] | None
) -> None:
    settings = of(resource, *fleet, override=override_of(override))
    assert msgspec.convert(msgspec.to_builtins(settings.spec), specs.Spec) == settings.spec
    assert len({each.field for each in settings.sources}) == len(settings.sources) <= 64
    origins = {each.origin for each in settings.sources}
    assert origins <= {"spec", "default", "override"} | {each.origin for each in fleet}
    assert {each.partition("/")[2] for each in origins} - {""} == settings.policy_usage.winners
    assert settings.policy_usage.winners | settings.policy_usage.losers <= settings.policy_usage.selected


@given(RESOURCES, FLEETS)
def test_nothing_but_live_fields_changes(resource: OcrDeployment, fleet: list[Policy]) -> None:
    for name in ("replicas", "gpu", "cache", "server", "template"):
        assert getattr(of(resource, *fleet).spec, name) == getattr(resource.spec, name)


@pytest.mark.parametrize("path", [*GENERAL, *PER_MODEL])
def test_paths_fit_into_the_status(path: str) -> None:
    assert len(f"models[{'m' * 63}].{path}") <= 128
