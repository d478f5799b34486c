"""Errors of command lines repeat no secret."""

import argparse

import pytest

from ocr_wire import arguments, redaction

SECRET = "hunter2-hunter2"


def parser() -> argparse.ArgumentParser:
    found = arguments.parser_class(redaction.environment({"HF_TOKEN": SECRET}))(prog="it")
    commands = found.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("--port", type=int)
    run.add_argument("--kind", choices=["a", "b"])
    return found


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["run", "--tokn", "abcdefgh"], "no option --tokn here"),
        (["run", "--tokn=abcdefgh", "-x", "ijklmnop"], "no option --tokn, -x here"),
        (["run", "more"], "more than it takes: more"),
        (["run", "--port", SECRET], "invalid int value: '[redacted]'"),
        (["run", "--kind", f"x{SECRET}"], "invalid choice: 'x[redacted]'"),
        (["run", "--po", "1"], "no option --po here"),
        ([SECRET], "[redacted]"),
        (["run", "https://me:abcdefgh@host/"], "more than it takes: https://[redacted]@host/"),
        (["run", "a\x1b[2Jb"], "a?[2Jb"),
    ],
)
def test_errors_name_the_option_and_no_value(
    line: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(line)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert says in said
    assert not {SECRET, "abcdefgh", "ijklmnop"} & {*said.replace("'", " ").split()}
    assert SECRET not in said
    assert "abcdefgh" not in said


def test_an_error_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["run", "x" * 100_000])
    assert len(capsys.readouterr().err) < 600
