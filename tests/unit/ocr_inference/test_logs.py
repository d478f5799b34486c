import logging
import sys

from aiohttp.http_exceptions import BadHttpMessage

from ocr_inference.logs import Formatter, quieten


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
