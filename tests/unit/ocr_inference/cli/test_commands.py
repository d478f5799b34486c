"""The command line: what it takes, what it says of itself."""

import re
import shlex

import pytest
from yarl import URL

from ocr_inference.cli import arguments, commands, exits, named
from ocr_inference.config.settings import Config, InvalidSettings, effective
from ocr_inference.documents.formats.kinds import Format
from ocr_wire.live_settings import IdleValues, LiveValues
from ocr_wire.redaction import redact
from ocr_wire.settings import NEVER
from tests.support.paths import ROOT

DOCS = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
PARSER = commands.parser(redact)
NAMES = next(action.choices for action in PARSER._actions if action.dest == "command")


def help_of(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        PARSER.parse_args([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", list(NAMES or ()))
def test_help_is_a_page_with_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = help_of(name, capsys=capsys)
    assert "exit codes:" in page
    assert max(len(line) for line in page.splitlines()) <= 110
    examples = re.findall(r"^  (?:.*\| )?ocr-inference (.*?)(?:   .*)?$", page, re.MULTILINE)
    for line in examples:
        PARSER.parse_args(shlex.split(re.split(r" [|>] ", line)[0]))
    assert examples or name == "gpu-exporter"


@pytest.mark.parametrize(
    "line",
    [
        "read ''",
        "read a --find ''",
        "read a --output ''",
        "read a --model ''",
        "serve --model ''",
        "gpu load --model ''",
    ],
)
def test_an_empty_word_is_a_variable_that_isnt_set(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        PARSER.parse_args(shlex.split(line))
    assert ended.value.code == exits.USAGE
    assert "it is empty" in capsys.readouterr().err


def test_commands_of_the_documentation_are_understood() -> None:
    lines = re.findall(r"^\$ (?:.*\| )?ocr-inference (.*)$", DOCS, re.MULTILINE)
    assert len(lines) > 8
    for line in lines:
        PARSER.parse_args(shlex.split(re.split(r" [|>] ", line)[0]))
    assert {line.split()[0] for line in lines} <= set(NAMES or ())


def test_the_documentation_has_all_commands_formats_and_exit_codes() -> None:
    rows = set(re.findall(r"^\| `([a-z-]+)` \|", DOCS, re.MULTILINE))
    assert {*(NAMES or ()), *Format} <= rows
    for code in (exits.INTERRUPTED, exits.TERMINATED, exits.PIPE_CLOSED):
        assert str(int(code)) in DOCS


@pytest.mark.parametrize(
    ("word", "seconds"),
    [("300", 300), ("0", 0), ("5m", 300), ("1.5h", 5400), ("never", NEVER), ("-1", NEVER)],
)
def test_idle_times(word: str, seconds: float) -> None:
    assert arguments.idle_time(word) == seconds


@pytest.mark.parametrize("word", ["", "-2", "5 m", "٥", "1e3", "nan", "99999999999", "soon"])
def test_what_is_no_idle_time(word: str) -> None:
    with pytest.raises(Exception, match="expected seconds"):
        arguments.idle_time(word)


@pytest.mark.parametrize(
    ("word", "url"),
    [
        ("http://localhost:8001", "http://localhost:8001/"),
        ("https://ocr.example.com/team/", "https://ocr.example.com/team"),
        ("http://[::1]:8001", "http://[::1]:8001/"),
    ],
)
def test_servers(word: str, url: str) -> None:
    assert arguments.server(word) == URL(url)


@pytest.mark.parametrize(
    "word",
    [
        "localhost:8001",
        "ftp://x",
        "http://",
        "http://me:secret-word@x",
        "http://x?key=secret-word",
        "http://x:y",
    ],
)
def test_what_is_no_server_is_not_repeated(word: str) -> None:
    with pytest.raises(Exception, match=r"expected http|leave out") as caught:
        arguments.server(word)
    assert "secret-word" not in str(caught.value)


def test_a_model_is_named_by_repository_folder_or_built_in_name() -> None:
    hub = named.model("deepseek-ai/DeepSeek-OCR", None, is_folder=False)
    assert (hub.name, hub.engine) == ("deepseek-ocr", "transformers")
    assert hub.source is not None
    assert hub.source.hugging_face is not None
    folder = named.model("My Model", None, is_folder=True)
    assert folder.source is not None
    assert (folder.name, folder.source.path) == ("my-model", "My Model")
    assert named.model("pp-ocr", None, is_folder=False) == Config().models[0]


@pytest.mark.parametrize(
    ("word", "engine", "param"),
    [
        ("DeepSeek-OCR", None, "--model"),
        ("https://huggingface.co/deepseek-ai/DeepSeek-OCR", None, "--model"),
        ("pp-ocr", "transformers", "--engine"),
        ("deepseek-ai/DeepSeek-OCR", "rapidocr", "--engine"),
    ],
)
def test_a_model_that_isnt_one_is_refused_by_its_option(word: str, engine: str | None, param: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        named.model(word, engine, is_folder=False)
    assert caught.value.param == param


def test_the_idle_time_of_the_command_line_wins() -> None:
    own = named.model("pp-ocr", None, is_folder=False)
    config = Config(models=(own,), idle=IdleValues(offload_after_seconds=5, exit_after_seconds=7))
    idle = effective(named.with_idle_time(config, NEVER), LiveValues(), 9.0).models["pp-ocr"].idle
    assert (idle.offload_after_seconds, idle.exit_after_seconds) == (NEVER, 7)
    assert named.with_idle_time(config, None) is config
