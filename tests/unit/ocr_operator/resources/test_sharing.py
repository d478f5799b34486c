"""Equal parts of two JSON values become the same object, and no value another one."""

import copy
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.resources.sharing import LEVELS, alike, exactly_alike

SCALARS = st.none() | st.booleans() | st.integers(0, 2) | st.just(1.0) | st.sampled_from(["a", "b"])
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


@given(JSON, JSON)
def test_a_value_stays_what_it_is(new: Any, known: Any) -> None:
    before = copy.deepcopy((new, known))
    assert alike(new, known) == new
    assert msgspec.json.encode(exactly_alike(new, known)) == msgspec.json.encode(new)
    assert (new, known) == before


def test_equal_parts_are_the_known_ones() -> None:
    known: dict[str, Any] = {"spec": {"env": [{"name": "A"}, {"name": "B"}]}, "status": {"replicas": 1}}
    new = {"spec": {"env": [{"name": "A"}, {"name": "C"}]}, "status": {"replicas": 1}}
    found = alike(new, known)
    assert found["status"] is known["status"]
    assert found["spec"]["env"][0] is known["spec"]["env"][0]
    assert alike(copy.deepcopy(known), known) is known


def test_fields_of_any_type_keep_theirs() -> None:
    known, new = {"template": {"spec": {"own": True}}}, {"template": {"spec": {"own": 1}}}
    assert exactly_alike(new, known)["template"]["spec"]["own"] is not True
    assert exactly_alike(copy.deepcopy(known), known) is known


def test_parts_are_looked_for_on_so_many_levels() -> None:
    """Each level compares what is below it, and an object may have 128 of them and 1.4 MB."""

    compared: list[object] = []

    class Counted:
        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return isinstance(other, Counted)

        __hash__ = None  # type: ignore[assignment]

    def nested(last: str) -> Any:
        value: Any = [Counted(), last]
        for _ in range(100):
            value = {"a": value}
        return value

    new, known = nested("x"), nested("y")
    assert alike(new, known) is not known
    assert len(compared) == LEVELS + 1
