import logging
import sys

from aiohttp.http_exceptions import BadHttpMessage

from ocr_inference.logs import Formatter, quieten
from ocr_wire.redaction import Redactor


def line(message: str, **extra: object) -> str:
    record = logging.getLogger("ocr").makeRecord(
        "ocr", logging.INFO, "f.py", 1, message, (), None, extra=extra or None
    )
    return Formatter().format(record).split(" ", 2)[2]


def test_fields_follow_the_message() -> None:
    assert line("loaded", model="m", seconds=1.5, why="two words") == (
        "INFO ocr loaded model=m seconds=1.5 why='two words'"
    )


def test_nobody_writes_a_line_of_their_own() -> None:
    assert "\n" not in line("path=/a\nERROR forged", name_="x\ny")


def test_what_is_no_http_is_one_line_and_our_faults_keep_their_traceback() -> None:
    for error, lines in ((BadHttpMessage("garbage"), 1), (RuntimeError("ours"), 2)):
        try:
            raise error
        except (BadHttpMessage, RuntimeError):
            record = logging.LogRecord("aiohttp.server", logging.ERROR, "f", 1, "Error", (), sys.exc_info())
        assert quieten(record)
        assert (len(Formatter().format(record).splitlines()) >= 2) == (lines == 2)


def test_secrets_are_in_no_line_wherever_a_record_carries_them() -> None:
    clean = Formatter(Redactor(["s3cret-of-ours"]))
    try:
        raise ValueError("Illegal header value b'Bearer of-others-1'")
    except ValueError:
        record = logging.LogRecord(
            "asyncio", logging.ERROR, "f", 1, "at %s", ("http://u:of-thirds@h/",), sys.exc_info()
        )
    record.why = "s3cret-of-ours, czNjcmV0LW9mLW91cnM="
    line = clean.format(record)
    assert [each in line for each in ("s3cret-of-ours", "of-others-1", "of-thirds", "czNjcmV0")] == [
        False
    ] * 4
    assert "at http://[redacted]@h/" in line
    assert "ValueError: Illegal header value b'Bearer [redacted]'" in line


def test_what_a_parser_quotes_is_in_no_line() -> None:
    for said in ("Invalid header value char:\n\n  b'cret\\x01x'\n", "Bad status line 'GET /?token=cret'"):
        record = logging.LogRecord("aiohttp.server", logging.ERROR, "f", 1, "Error", (), None)
        error = BadHttpMessage(said)
        record.exc_info = (BadHttpMessage, error, None)
        assert quieten(record)
        assert "cret" not in Formatter().format(record)
        assert said[:11] in Formatter().format(record)
