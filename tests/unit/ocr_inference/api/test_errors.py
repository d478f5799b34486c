from ocr_inference import errors
from ocr_inference.protocol.engine import FailureKind
from ocr_inference.scheduling.state import Reason


def test_every_reason_and_every_failure_has_a_rule() -> None:
    assert {reason.value for reason in Reason} == set(errors.REFUSALS)
    assert {kind.value for kind in FailureKind} == set(errors.FAILURES)


def test_every_rule_has_a_type_and_those_that_pass_say_when() -> None:
    for rule in (*errors.REFUSALS.values(), *errors.FAILURES.values(), errors.UNKNOWN):
        assert rule.status in errors.TYPES
        assert rule.retry == (rule.status in {429, 503} or rule.code == "model_busy")
        assert (errors.of(rule, "m").retry_after_seconds is not None) == rule.retry


def test_the_body_has_one_shape() -> None:
    body = errors.ApiError(422, "invalid_value", "no", param="x").body
    assert body == {
        "error": {"message": "no", "type": "invalid_request_error", "code": "invalid_value", "param": "x"}
    }
