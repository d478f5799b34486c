import logging

from ocr_inference.logs import Formatter


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
