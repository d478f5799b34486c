import pytest

from ocr_inference import errors
from ocr_inference.protocol.engine import FailureKind
from ocr_inference.scheduling.state import Reason


def test_every_reason_and_every_failure_has_a_rule() -> None:
    assert {reason.value for reason in Reason} == set(errors.REFUSALS)
    assert {kind.value for kind in FailureKind} == set(errors.FAILURES)


def test_every_rule_has_a_type_and_those_that_pass_say_when() -> None:
    for rule in (*errors.REFUSALS.values(), *errors.FAILURES.values(), errors.UNKNOWN):
        assert rule.status in errors.TYPES
        passes = rule.status in {429, 503} or rule.code == "model_busy"
        assert rule.retry == (passes and rule.code != "engine_missing")
        assert (errors.of(rule, "m").retry_after_seconds is not None) == rule.retry


def test_suggestions_are_in_the_words_and_beside_the_error() -> None:
    error = errors.of(errors.FAILURES["out_of_memory"], "no memory", suggestions=("free some", "buy some"))
    for path in ("/ocr", "/v1/chat/completions"):
        assert error.body(path)["suggestions"] == ["free some", "buy some"]
    assert error.message == "no memory. What may help: free some; buy some"
    assert "suggestions" not in error.body("/v1/models")["error"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/nothing"])
def test_below_v1_the_body_is_the_one_of_openai(path: str) -> None:
    assert errors.ApiError(422, "invalid_value", "no", param="x").body(path) == {
        "error": {"message": "no", "type": "invalid_request_error", "code": "invalid_value", "param": "x"}
    }


@pytest.mark.parametrize("path", ["", "/", "/ocr", "/v1nothing"])
def test_elsewhere_the_body_is_flat(path: str) -> None:
    assert errors.ApiError(422, "invalid_value", "no", param="x").body(path) == {
        "success": False,
        "error": "no",
        "detail": "no",
        "type": "invalid_request_error",
        "code": "invalid_value",
        "param": "x",
    }
