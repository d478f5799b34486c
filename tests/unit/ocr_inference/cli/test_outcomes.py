"""What is read again, what is written, and what the exit code says."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from ocr_inference.api.schema import PageAnswer
from ocr_inference.cli import exits
from ocr_inference.cli.read import rendering, resuming, summary
from ocr_inference.cli.read.asked import Asked, chosen
from ocr_inference.cli.read.notes import NAME as NOTES
from ocr_inference.cli.read.notes import Notes
from ocr_inference.cli.read.outputs import Outputs
from ocr_inference.cli.read.reading import PageError, Reading
from ocr_inference.cli.read.resuming import Record, Step
from ocr_inference.cli.read.summary import Fate, Outcome
from ocr_inference.documents.formats.kinds import Format
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile
from ocr_wire.errors import ErrorInfo
from ocr_wire.tasks import Task

RECORD = Record(output="a.pdf.md", source="../a.pdf", digest="d", mark="m")


@pytest.mark.parametrize(
    ("record", "is_there", "force", "step"),
    [
        (RECORD, True, False, Step.DONE),
        (RECORD, False, False, Step.READ),
        (RECORD, True, True, Step.READ),
        (structs.replace(RECORD, mark="other"), True, False, Step.READ),
        (structs.replace(RECORD, digest="other"), True, False, Step.READ),
        (structs.replace(RECORD, complete=False), True, False, Step.READ),
        (structs.replace(RECORD, source="../moved/a.pdf"), True, False, Step.DONE),
        (structs.replace(RECORD, source="../b/a.pdf", digest="other"), True, False, Step.FOREIGN),
        (None, True, False, Step.FOREIGN),
        (None, True, True, Step.READ),
        (None, False, False, Step.READ),
    ],
)
def test_what_was_read_is_skipped_and_what_is_foreign_kept(
    record: Record | None, is_there: bool, force: bool, step: Step
) -> None:
    assert resuming.step(record, RECORD, is_there=is_there, force=force) is step


WORD = st.sampled_from(["a", "b", "-"])
RECORDS = st.builds(Record, output=WORD, source=WORD, digest=WORD, mark=WORD, complete=st.booleans())


@given(st.none() | RECORDS, RECORDS, st.booleans())
def test_nothing_is_overwritten_but_results_of_the_same_document(
    record: Record | None, wanted: Record, is_there: bool
) -> None:
    step = resuming.step(record, wanted, is_there=is_there, force=False)
    if step is Step.READ and is_there:
        assert record is not None
        assert record.source == wanted.source or record.digest == wanted.digest
    if step is Step.DONE:
        assert record is not None
        assert (record.digest, record.mark, record.complete) == (wanted.digest, wanted.mark, True)


def test_the_mark_is_of_all_that_changes_a_result() -> None:
    asked = [
        Asked(),
        Asked(task=Task.OCR),
        Asked(task=Task.FIND, find_term="a"),
        Asked(task=Task.FIND, find_term="b"),
        Asked(format=Format.JSON),
        Asked(model="m"),
        Asked(pages="1"),
        Asked(dpi=300),
    ]
    assert len({each.mark() for each in asked}) == len(asked)
    assert Asked().mark() == Asked().mark()


def test_a_result_is_there_as_a_whole_and_noted(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "out")
    record = structs.replace(RECORD, output="2024/a.pdf.md")
    outputs.write(record, b"text", may_replace=False)
    assert (tmp_path / "out/2024/a.pdf.md").read_bytes() == b"text"
    assert (tmp_path / "out/2024/a.pdf.md").stat().st_mode & 0o777 == 0o666 & ~_umask()
    again = Outputs(tmp_path / "out")
    assert again.record("2024/a.pdf.md") == record
    assert again.paths() == {f"{tmp_path}/out/2024/a.pdf.md"}


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path)
    (tmp_path / "a.pdf.md").mkdir()  # nothing can take the place of a folder
    (tmp_path / "a.pdf.md/kept").touch()
    with pytest.raises(OSError, match="directory") as caught:
        outputs.write(RECORD, b"text", may_replace=True)
    assert caught.value.errno in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST)
    assert sorted(each.name for each in tmp_path.iterdir()) == [NOTES, "a.pdf.md"]
    assert Outputs(tmp_path).record("a.pdf.md") is None


def test_names_that_are_no_utf8_are_noted(tmp_path: Path) -> None:
    record = structs.replace(
        RECORD, output=os.fsdecode(b"\xff\n.png.md"), source=os.fsdecode(b"../\xff\n.png")
    )
    Outputs(tmp_path).write(record, b"text", may_replace=False)
    assert Outputs(tmp_path).record(record.output) == record


def test_a_file_that_came_meanwhile_stays(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path)
    (tmp_path / "a.pdf.md").write_text("of another run")
    with pytest.raises(FileExistsError):
        outputs.write(RECORD, b"text", may_replace=False)
    assert (tmp_path / "a.pdf.md").read_text() == "of another run"
    outputs.write(RECORD, b"text", may_replace=True)
    assert (tmp_path / "a.pdf.md").read_text() == "text"
    assert sorted(each.name for each in tmp_path.iterdir()) == [NOTES, "a.pdf.md"]


def test_damaged_notes_cost_a_reading_and_no_more(tmp_path: Path) -> None:
    Outputs(tmp_path).write(RECORD, b"text", may_replace=False)
    with (tmp_path / NOTES).open("ab") as notes:
        notes.write(b'{"output": "cut\n\xff\xfe\n{"output": 3}\n[]\n')
    assert Outputs(tmp_path).record("a.pdf.md") == RECORD
    with pytest.raises(OSError, match="it isn't a folder"):
        Outputs(tmp_path / NOTES)


def test_a_run_that_was_killed_leaves_no_foreign_files(tmp_path: Path) -> None:
    # Between the two notes of a result: before it is there, and after.
    Notes(tmp_path).begin(RECORD, b"text")
    assert Outputs(tmp_path).record("a.pdf.md") is None
    (tmp_path / "a.pdf.md").write_bytes(b"of another program")
    assert Outputs(tmp_path).record("a.pdf.md") is None
    (tmp_path / "a.pdf.md").write_bytes(b"text")
    assert Outputs(tmp_path).record("a.pdf.md") == RECORD
    assert Outputs(tmp_path).paths() == {f"{tmp_path}/a.pdf.md"}


def test_a_result_that_was_there_before_stays_noted_when_its_next_one_is_lost(tmp_path: Path) -> None:
    Outputs(tmp_path).write(RECORD, b"text", may_replace=False)
    Notes(tmp_path).begin(structs.replace(RECORD, digest="newer"), b"newer text")
    assert Outputs(tmp_path).record("a.pdf.md") == RECORD


def test_notes_go_on_after_a_line_that_was_cut(tmp_path: Path) -> None:
    (tmp_path / NOTES).write_bytes(b'{"output": "b.pdf.md", "sou')
    Outputs(tmp_path).write(RECORD, b"text", may_replace=False)
    assert Outputs(tmp_path).record("a.pdf.md") == RECORD


def test_what_another_run_wrote_meanwhile_is_known(tmp_path: Path) -> None:
    here, other = Outputs(tmp_path), Outputs(tmp_path)
    other.write(RECORD, b"text", may_replace=False)
    assert here.record("a.pdf.md") == RECORD


def of(*fates: Fate, code: str = "") -> list[Outcome]:
    return [Outcome("x", fate, code=code, ends_run=bool(code)) for fate in fates]


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (of(Fate.READ, Fate.DONE), exits.OK),
        (of(Fate.DONE), exits.OK),
        (of(Fate.READ, Fate.FAILED), exits.PARTLY),
        (of(Fate.DONE, Fate.UNREAD), exits.PARTLY),
        (of(Fate.PARTLY), exits.PARTLY),
        (of(Fate.FAILED, Fate.UNREAD), exits.FAILED),
        (of(Fate.FAILED, code="load_failed"), exits.FAILED),
        (of(Fate.FAILED, code="wrong_token"), exits.USAGE),
        ([], exits.FAILED),
    ],
)
def test_exit_codes_tell_partial_failure(outcomes: list[Outcome], code: int) -> None:
    assert summary.exit_code(outcomes) == code


def test_the_end_names_each_failure_with_its_reason() -> None:
    outcomes = [
        Outcome("a.pdf", Fate.READ, 3),
        Outcome("b\x1b.pdf", Fate.FAILED, reason="the PDF is damaged"),
        Outcome("c.pdf", Fate.PARTLY, 1, "page 2: odd"),
        Outcome("d.pdf", Fate.DONE),
        Outcome("e.pdf", Fate.UNREAD),
    ]
    assert summary.closing(outcomes, {".txt": 1}, 75.0, stopped="stopped by Ctrl-C") == [
        (
            "stopped by Ctrl-C: read 2 documents (4 pages) in 1 m 15 s, 1 of them not whole, "
            "1 done before (--force reads them again), 1 failed, 1 not begun"
        ),
        "skipped 1 file that is no document: 1 .txt",
        "failed:",
        "  b?.pdf: the PDF is damaged",
        "not whole:",
        "  c.pdf: page 2: odd",
    ]


PAGES = (
    PageAnswer(index=0, text="one"),
    PageAnswer(index=1, error=ErrorInfo(message="it's -- odd", code="odd")),
    PageAnswer(index=2, text="three"),
)
READING = Reading.of(PAGES)


async def rendered(format_: Format, shown: str, reading: Reading, *, is_alone: bool = True) -> str:
    with PageFile.of(b"") as file:
        return (await rendering.render(format_, shown, reading, file, 1, is_alone=is_alone)).decode()


async def test_a_page_that_failed_has_its_error_in_its_place() -> None:
    assert READING.errors == (PageError(1, "odd", "it's -- odd"),)
    assert await rendered(Format.MARKDOWN, "a", READING) == (
        "one\n\n---\n\n<!-- page 2 couldn't be read: it's - - odd -->\n\n---\n\nthree\n"
    )
    assert await rendered(Format.TEXT, "a", READING) == (
        "one\n\f[page 2 couldn't be read: it's -- odd]\n\fthree\n"
    )
    assert summary.outcome("a", READING) == Outcome("a", Fate.PARTLY, 2, "page 2: it's -- odd", "odd")


def test_what_breaks_a_document_off_is_the_error_of_the_next_page() -> None:
    reading = Reading.of(PAGES[:1], ErrorInfo(message="no model", code="load_failed"), ends_run=True)
    assert reading.errors == (PageError(1, "load_failed", "no model"),)
    assert Reading.of((), ErrorInfo(message="no")).errors == (PageError(None, "failed", "no"),)


async def test_several_documents_are_told_apart() -> None:
    one = Reading.of(PAGES[:1])
    found = await rendered(Format.MARKDOWN, "a--b\n.pdf", one, is_alone=False)
    assert found == "<!-- a- -b?.pdf -->\n\none\n\n"
    assert await rendered(Format.TEXT, "a.pdf", one, is_alone=False) == "==> a.pdf <==\none\n\n"
    assert (await rendered(Format.JSON, "a.pdf", one, is_alone=False)).count("\n") == 1


def test_a_page_cant_control_a_terminal() -> None:
    assert rendering.printable("é\x1b[2J\f\tx\r\n".encode()).decode() == "é?[2J\tx?\n"


@pytest.mark.parametrize(
    ("task", "find", "found"),
    [(None, None, Task.DOCUMENT), (None, "a", Task.FIND), ("ocr", None, Task.OCR), ("find", "a", Task.FIND)],
)
def test_the_task_follows_from_what_is_wanted(task: str | None, find: str | None, found: Task) -> None:
    assert chosen(task, find) is found


@pytest.mark.parametrize(("task", "find"), [("find", None), ("ocr", "a"), (None, "a\udcff"), (None, "\x1b")])
def test_a_term_and_its_task_come_together(task: str, find: str | None) -> None:
    with pytest.raises(ApiError, match="--find"):
        chosen(task, find)
