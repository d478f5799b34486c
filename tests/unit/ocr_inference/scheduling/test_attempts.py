import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.protocol.engine import Failure, FailureKind
from ocr_inference.scheduling.attempts import Next, Verdict, next_step, verdict


def failure(kind: FailureKind = FailureKind.FAILED, *, shared: bool = False) -> Failure:
    return Failure(kind=kind, message="it failed", shared=shared)


def test_pages_that_failed_together_are_read_again_alone() -> None:
    assert next_step(failure(shared=True), alone=False) is Next.ALONE


def test_a_page_that_fails_by_itself_has_failed() -> None:
    assert next_step(failure(), alone=False) is Next.FAIL
    assert next_step(failure(FailureKind.INVALID_IMAGE), alone=True) is Next.FAIL


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_where_memory_ran_out_other_ways_are_tried(shared: bool, alone: bool) -> None:
    assert next_step(failure(FailureKind.OUT_OF_MEMORY, shared=shared), alone=alone) is Next.CLIMB


@given(kind=st.sampled_from(FailureKind), shared=st.booleans())
def test_a_page_that_was_alone_is_never_read_alone_again(kind: FailureKind, shared: bool) -> None:
    assert next_step(failure(kind, shared=shared), alone=True) is not Next.ALONE


@pytest.mark.parametrize(
    ("kind", "shared", "suspected", "expected"),
    [
        (FailureKind.INVALID_IMAGE, False, False, Verdict.ACQUITTED),
        (FailureKind.INVALID_IMAGE, False, True, Verdict.ACQUITTED),
        (FailureKind.FAILED, False, False, Verdict.ACQUITTED),
        (FailureKind.FAILED, False, True, Verdict.CAUSE),
        (FailureKind.FAILED, True, False, Verdict.OPEN),
        (FailureKind.OUT_OF_DESCRIPTORS, False, True, Verdict.OPEN),
    ],
)
def test_what_a_failure_says_about_its_page(
    kind: FailureKind, shared: bool, suspected: bool, expected: Verdict
) -> None:
    assert verdict(failure(kind, shared=shared), suspected=suspected) is expected
