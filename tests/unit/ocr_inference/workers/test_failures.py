"""What leaves a worker process: failures without secrets, pages as they were read."""

import errno
import logging
import sys

import pytest

from ocr_inference.protocol.engine import Answer, Failure, FailureKind, ModelSpec, PageResult, Start
from ocr_inference.workers import failures
from ocr_wire.redaction import MARK, Redactor
from tests.support import marks


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError("x"), FailureKind.OUT_OF_MEMORY),
        (OSError(errno.ENOMEM, "x"), FailureKind.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "x"), FailureKind.DISK_FULL),
        (ValueError("x"), FailureKind.FAILED),
    ],
)
def test_an_exception_has_its_kind(error: Exception, kind: FailureKind) -> None:
    assert failures.explained(error).kind is kind


def test_a_failure_is_cleaned_before_it_is_cut() -> None:
    secret = marks.mark()
    said = "x" * (failures.MAX_MESSAGE - 20) + secret
    answer = Answer(1, Failure(kind=FailureKind.FAILED, message=said))
    left = failures.without_secrets(answer, Redactor([secret])).result
    assert isinstance(left, Failure)
    assert left.message.endswith(f"x{MARK}")
    assert not marks.leaks(left.message, secret)


def test_what_was_read_from_a_page_stays_whatever_it_looks_like() -> None:
    secret = marks.mark()
    text = f"Authorization: Bearer {secret} http://u:{secret}@h"
    answer = Answer(1, PageResult(text=text, width=1, height=1))
    assert failures.without_secrets(answer, Redactor([secret])) is answer


def test_a_traceback_in_the_log_has_no_secret() -> None:
    secret = marks.mark()
    try:
        raise ValueError(f"password is {secret}")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "a call failed", (), sys.exc_info())
    line = failures.Lines(Redactor([secret])).format(record)
    assert f"ValueError: password is {MARK}" in line
    assert not marks.leaks(line, secret)


def test_the_first_message_can_be_shown() -> None:
    secret = marks.mark()
    start = Start(ModelSpec(name="m", engine="fake"), {"HF_TOKEN": secret})
    assert "HF_TOKEN" in repr(start)
    assert not marks.leaks(repr(start), secret)
