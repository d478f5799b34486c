"""The command line and its completion: words in, options or candidates out."""

import re
import shlex

import pytest

from kubectl_ocr import __main__ as program
from kubectl_ocr import cli, completion
from kubectl_ocr.cli import Options
from ocr_wire import names
from tests.support.paths import ROOT


def test_options_of_kubectl_may_stand_before_and_after_the_command() -> None:
    for words in (
        "--context x -n team-a status",
        "status --context x -n team-a",
        "--context x status -n team-a",
    ):
        told = cli.parse(words.split())
        assert (told.kubectl, told.namespace) == (("--context=x",), "team-a"), words


@pytest.mark.parametrize(
    ("words", "offload", "exit_", "release"),
    [
        ("300", 300, None, None),
        ("5m --exit 1h --release never", 300, 3600, -1),
        ("-1", -1, None, None),
        ("--release 0.5", None, None, 0.5),
        ("--exit 1h 300", 300, 3600, None),
        ("--exit 1h -1", -1, 3600, None),
    ],
)
def test_idle_times(words: str, offload: float | None, exit_: float | None, release: float | None) -> None:
    told = cli.parse(["timeout", "invoices", *words.split()])
    assert (told.offload, told.exit, told.release) == (offload, exit_, release)
    assert told == Options(command="timeout", name="invoices", offload=offload, exit=exit_, release=release)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("timeout invoices", "needs SECONDS, --exit or --release, or --clear"),
        ("timeout invoices 30 --for never", "more than 0"),
        ("timeout invoices --for 2h soon", "no idle time"),
        ("timeout invoices --for 2h 30 40", "more than it takes: 30 40"),
        ("timeout invoices 30 --for 2h 40", "more than it takes: 40"),
        ("timeout invoices 30 --fro 2h", "no option --fro here"),
        ("timeout invoices 30 --for 2d", "no idle time"),
        ("timeout invoices --for 2h", "needs SECONDS"),
        ("timeout invoices 30 --clear", "stands alone"),
        ("timeout invoices --clear --for 2h", "stands alone"),
        ("timeout invoices --clear --model a", "stands alone"),
        ("timeout invoices soon", "no idle time"),
        ("timeout invoices 1e3", "no idle time"),
        ("timeout invoices 31536001", "no idle time"),
        ("timeout invoices ٣", "no idle time"),
        ("timeout invoices -5", ""),
        ("wake", "NAME"),
        ("wake invoices --within 0", "more than 0"),
        ("wake invoices --mod x", "--mod"),
        ("status -w -o json", "-w follows as a table"),
        ("status -o xml", "xml"),
        ("read invoices", "DOCUMENT"),
        ("read invoices a.pdf --format docx", "say by --output DIR where it goes"),
        ("sleep invoices", "sleep"),
    ],
)
def test_wrong_words_end_with_status_2_and_a_reason(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.parse(words.split())
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_every_command_has_help_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for name in cli.COMMANDS:
        with pytest.raises(SystemExit) as ended:
            cli.parse([name, "--help"])
        assert ended.value.code == 0
        assert f"  kubectl ocr {name}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        cli.parse([])
    assert ended.value.code == 0
    assert "exit status" in capsys.readouterr().out


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_its_module_and_its_place_on_the_page_and_in_a_role(command: str) -> None:
    assert callable(program._command(command))
    page = (ROOT / "docs" / "kubectl-plugin.md").read_text()
    assert re.search(rf"^\| [^|]*`{command}\b", page, re.MULTILINE)
    roles = re.findall(r"^  name: \S+ # (.+)$", (ROOT / "plugin" / "rbac.yaml").read_text(), re.MULTILINE)
    assert [role for role in roles if re.search(rf"\b{command}\b", role)] != []


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_completion_knows_which_options_have_values_and_which_words_they_take(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.parse([command, "--help"])
    valued = re.findall(r"(?<= )(--?[a-z-]+) (?:[A-Z]+\b|\{(.+?)\})", capsys.readouterr().out)
    assert "--namespace" in dict(valued)
    for option, words in valued:
        assert completion.wanted([command, option, "x", ""]) == completion.wanted([command, ""]), option
        assert ",".join(completion.wanted([command, option, ""])[1]) == words, option


def test_examples_of_the_help_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    seen = 0
    for name in cli.COMMANDS:
        with pytest.raises(SystemExit):
            cli.parse([name, "--help"])
        for line in capsys.readouterr().out.splitlines():
            if line.startswith("  kubectl ocr "):
                words = line.split("  ")[1].split("<")[0].split()[2:]
                assert cli.parse(words).command == name
                seen += 1
    assert seen >= 12


def test_what_the_pages_show_is_understood() -> None:
    docs = ROOT / "docs"
    pages = [
        ROOT / "README.md",
        *(docs / f"{each}.md" for each in ("kubectl-plugin", "operations", "gpu-clusters")),
    ]
    pages += sorted((docs / "runbooks").glob("*.md"))
    shown = [
        line.removeprefix("$ kubectl ocr ")
        for page in pages
        for line in page.read_text().splitlines()
        if line.startswith("$ kubectl ocr ") and "--help" not in line
    ]
    assert len(shown) >= 10
    for line in shown:
        assert cli.parse(shlex.split(line, comments=True)).command in cli.COMMANDS, line


@pytest.mark.parametrize(
    ("words", "kind", "candidate", "directive"),
    [
        ([""], "", "status\t", completion.NO_FILES),
        (["-n", "x", ""], "", "top\t", completion.NO_FILES),
        (["status", ""], names.RESOURCE, "", completion.NO_FILES),
        (["top", ""], "", "", completion.NO_FILES),
        (["why", ""], "pods", "", completion.NO_FILES),
        (["wake", "invoices", "--pod", ""], "pods", "", completion.NO_FILES),
        (["status", "-n", ""], "namespaces", "", completion.NO_FILES),
        (["status", "-o", "j"], "", "json", completion.NO_FILES),
        (["read", "invoices", ""], "", "", completion.FILES),
        (["read", "invoices", "--format", ""], "", "markdown", completion.NO_FILES),
        (["bogus", ""], "", "", completion.NO_FILES),
        ([], "", "status\t", completion.NO_FILES),
    ],
)
def test_completion(words: list[str], kind: str, candidate: str, directive: int) -> None:
    asked, candidates, told = completion.wanted(words)
    assert (asked, told) == (kind, directive)
    assert any(each.startswith(candidate) for each in candidates) if candidate else not candidates


@pytest.mark.parametrize(
    "words", ["read invoices ''", "read invoices a.png --output ''", "read invoices a.png --find-term="]
)
def test_an_empty_word_is_a_variable_that_isnt_set(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.parse(shlex.split(words))
    assert ended.value.code == 2
    assert "a word of the command line is empty" in capsys.readouterr().err
