"""Reading resources: what is valid comes out whole, what isn't comes out as a field and a message."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.resources import spec as specs
from tests.support import resources


def test_defaults_are_filled_in() -> None:
    spec = resources.make_deployment().spec
    assert spec == specs.Spec(models=(specs.Model(name="pp-ocr", engine="rapidocr"),))
    assert spec.replicas == 1
    assert spec.idle == specs.Idle(
        offload_after_seconds=60, exit_after_seconds=300, release_after_seconds=1800
    )
    assert spec.cache.empty_dir is not None


def test_metadata_and_status_come_along() -> None:
    body = {**resources.make_body(), "status": {"replicas": 2}}
    body["metadata"] |= {"generation": 7, "labels": {"a": "b"}}
    parsed = specs.parse(body)
    assert isinstance(parsed, specs.OcrDeployment)
    assert (parsed.name, parsed.namespace, parsed.uid, parsed.generation) == (
        "invoices", "default", "uid-of-invoices", 7,
    )  # fmt: skip
    assert parsed.status == {"replicas": 2}


@pytest.mark.parametrize("status", [None, [], "gone", 3])
def test_damaged_status_is_no_status(status: Any) -> None:
    parsed = specs.parse({**resources.make_body(), "status": status})
    assert isinstance(parsed, specs.OcrDeployment)
    assert parsed.status == {}


def test_sizes_are_bytes() -> None:
    models = [{**resources.RAPIDOCR, "gpuMemory": "1.5Gi"}, {**resources.DEEPSEEK, "gpuMemory": 1000}]
    spec = resources.make_deployment(models=models).spec
    assert [model.gpu_memory for model in spec.models] == [3 * 2**29, 1000]
    assert spec.gpu_memory_bytes == 3 * 2**29 + 1000


def test_memory_of_models_that_say_nothing_counts_as_none() -> None:
    assert resources.make_deployment().spec.gpu_memory_bytes == 0


def test_timeouts_of_a_model_override_field_by_field() -> None:
    idle = specs.Idle(offload_after_seconds=1, exit_after_seconds=2, release_after_seconds=3)
    merged = idle.merged(specs.IdleOverride(exit_after_seconds=0, release_after_seconds=-1))
    assert merged == specs.Idle(offload_after_seconds=1, exit_after_seconds=0, release_after_seconds=-1)


def test_fields_of_a_newer_definition_are_ignored() -> None:
    body = resources.make_body(future={"x": 1}, idle={"offloadAfterSeconds": 5, "hibernateAfterSeconds": 9})
    parsed = specs.parse(body)
    assert isinstance(parsed, specs.OcrDeployment)
    assert parsed.spec.idle.offload_after_seconds == 5


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, "metadata", "Required value"),
        ({"metadata": {"name": "a"}, "spec": {}}, "metadata.namespace", "Required value"),
        ({**resources.make_body(), "spec": None}, "spec", "Expected `object`, got `null`"),
        ({**resources.make_body(), "spec": {}}, "spec.models", "Required value"),
        (resources.make_body(replicas=True), "spec.replicas", "Expected `int`, got `bool`"),
        (resources.make_body(idle=None), "spec.idle", "Expected `object`, got `null`"),
        (resources.make_body(queue={"limit": 10**30}), "spec.queue.limit", "Expected `int` <= 10000"),
        (
            resources.make_body(template={"metadata": {"labels": {"a": 1}}}),
            "spec.template.metadata.labels[...]",
            "Expected `str`, got `int`",
        ),
    ],
)
def test_what_slips_through_is_told_by_field(body: dict[str, Any], field: str, message: str) -> None:
    assert specs.parse(body) == specs.InvalidSpec(field=field, message=message)


def test_a_spec_nested_beyond_reason_is_refused() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    outcome = specs.parse(
        {**resources.make_body(), "spec": {"models": [resources.RAPIDOCR], "template": {"spec": deep}}}
    )
    assert outcome == specs.InvalidSpec(field="spec.template.spec", message="is nested deeper than 64 levels")
    while deep:  # taken apart here, because the interpreter would recurse to free it
        deep = deep["a"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"a": [{}] * 450_000}, "has more than 20000 values"),
        ({str(number): 0 for number in range(20_001)}, "has more than 20000 values"),
        ({"a": [[0] * 99] * 250}, "has more than 20000 values"),
        ({"a": "x" * 600_000}, "has more than 524288 characters"),
        ({"x" * 600_000: 1}, "has more than 524288 characters"),
        ({"a": ["x" * 600] * 1000}, "has more than 524288 characters"),
    ],
)
def test_a_template_that_every_pass_would_be_held_up_by_is_refused(
    template: dict[str, Any], message: str
) -> None:
    body = resources.make_body(template={"spec": template})
    assert specs.parse(body) == specs.InvalidSpec(field="spec.template.spec", message=message)


def test_a_large_pod_is_taken() -> None:
    containers = [
        {"name": f"c{number}", "env": [{"name": f"E{each}", "value": "x" * 100} for each in range(100)]}
        for number in range(30)
    ]
    assert isinstance(
        specs.parse(resources.make_body(template={"spec": {"containers": containers}})), specs.OcrDeployment
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
FIELDS = list(specs.Spec.__struct_encode_fields__)


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_never_raises(spec: dict[str, Any]) -> None:
    outcome = specs.parse({**resources.make_body(), "spec": spec})
    assert isinstance(outcome, specs.OcrDeployment | specs.InvalidSpec)
    if isinstance(outcome, specs.InvalidSpec):
        assert outcome.field.startswith("spec")


@given(st.dictionaries(st.sampled_from(["metadata", "spec", "status", "kind"]), JSON))
def test_never_raises_on_any_body(body: dict[str, Any]) -> None:
    assert isinstance(specs.parse(body), specs.InvalidSpec)


@pytest.mark.parametrize("name", ["pp-ocr\n", "pp\nocr", "\npp-ocr"])
def test_a_line_break_is_no_part_of_a_name(name: str) -> None:
    parsed = specs.parse(resources.make_body(models=[{**resources.RAPIDOCR, "name": name}]))
    assert isinstance(parsed, specs.InvalidSpec)
    assert "models" in parsed.field


def test_fields_of_a_struct_are_found_out_once() -> None:
    assert specs.fields(specs.Model) is specs.fields(specs.Model)
