"""Fields of controls: whatever is sent, it is a value within bounds or a 422 that names the field."""

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.api import schema
from ocr_inference.api.control import fields
from ocr_inference.errors import ApiError
from ocr_wire.settings import MAX_SECONDS

T = TypeVar("T")

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
)


def understood(name: str, read: Callable[[], T]) -> T | None:
    """What `read` returns; None for a 422 that names the field."""
    try:
        return read()
    except ApiError as error:
        refusal = error
    assert (refusal.status, refusal.param) == (422, name)
    return None


@given(value=ANYTHING, never=st.booleans())
def test_seconds_are_in_bounds_or_refused_by_name(value: object, never: bool) -> None:
    found = understood("timeout", lambda: fields.seconds({"timeout": value}, "timeout", never=never))
    assert found is None or 0 <= found <= MAX_SECONDS or (never and found == -1)


@given(number=st.floats(0, MAX_SECONDS))
def test_seconds_are_the_same_as_text_and_as_number(number: float) -> None:
    text = f"{number:.6f}"
    assert fields.seconds({"timeout": text}, "timeout") == fields.seconds({"timeout": float(text)}, "timeout")


@given(value=ANYTHING)
def test_a_flag_is_understood_or_refused_by_name(value: object) -> None:
    found = understood("all", lambda: fields.flag({"all": value}, "all"))
    assert found is None or found is value or str(value).lower() in schema.FLAGS


@given(
    sent=st.lists(st.tuples(st.sampled_from(["model", "all", "modle"]), st.sampled_from(["a", "b", True])))
)
def test_fields_have_all_that_was_sent_or_are_refused(sent: list[tuple[str, object]]) -> None:
    clear = "modle" not in dict(sent) and all(
        len({value for name, value in sent if name == each}) <= 1 for each in ("model", "all")
    )
    if clear:
        assert dict(fields.merged(sent, ("model", "all"))) == dict(sent)
    else:
        with pytest.raises(ApiError) as caught:
            fields.merged(sent, ("model", "all"))
        assert caught.value.status == 422
