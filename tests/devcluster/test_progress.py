import io

import pytest

from devcluster.progress import Progress, bar, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("seconds", "text"), [(0.42, "0.4 s"), (48.4, "48 s"), (320, "5 min 20 s")])
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("share", "filled"), [(-1, 0), (0, 0), (0.5, 5), (1, 10), (7, 10)])
def test_a_bar_has_a_fixed_width(share: float, filled: int) -> None:
    assert bar(share, 10) == "━" * filled + "┄" * (10 - filled)


def test_a_terminal_gets_one_line_that_moves_and_goes() -> None:
    stream = Terminal()
    progress = Progress(stream, Clock())
    progress.count("compiling", 1, 4, 1, 10)
    progress.count("compiling", 2, 4, 2, 10)
    progress.say("done")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().count("\r\x1b[K") == 2
    assert stream.getvalue().endswith("\r\x1b[Kdone\n")


def test_a_file_gets_a_line_every_15_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, clock)
    for second in range(31):
        clock.now = float(second)
        progress.count("compiling", second, 60, second, 60)
    assert stream.getvalue().splitlines() == [
        f"  compiling: {second}/60, {duration(second)} of about 1 min 0 s" for second in (0, 15, 30)
    ]
